"""What the HTTP listener calls, request by request: the app of the configuration that is served just then.

Listeners start once, and configurations come and go. Every configuration has an `Edge`, and handlers, of its
own; a request meets those of one configuration from its first byte to its reply. `grpc_answer.py` does the
same for gRPC.
"""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class LatestHttp:
    """An ASGI app that is whatever app is the latest.

    Args:
        latest: the app.
    """

    def __init__(self, latest: Callable[[], ASGIApp]) -> None:
        self._latest = latest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        return self._latest()(scope, receive, send)
