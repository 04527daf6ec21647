"""How large a body the admin port takes: FastAPI reads it whole before it asks who sent it."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 64 * 1024
"""A change is one line of JSON."""
TOO_LARGE = 413


class BodyLimit:
    """An ASGI app that refuses larger bodies, whoever sends them.

    Args:
        app: what it wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        taken_bytes = 0

        async def receive_some() -> Message:
            nonlocal taken_bytes
            message = await receive()
            taken_bytes += len(message.get("body", b""))
            if taken_bytes > MAX_BYTES:
                raise HTTPException(TOO_LARGE, f"expected at most {MAX_BYTES} bytes")
            return message

        await self._app(scope, receive_some, send)
