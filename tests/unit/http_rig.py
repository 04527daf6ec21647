"""An HTTP connection on a transport that keeps what is written, and an app that tells all it is told."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from gateway.http_connection import HttpConnection
from gateway.protocols.http_body import WHOLE_BODY
from gateway.protocols.http_reply import WHOLE_REPLY


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with all that it is told of a request; on /slow after a while, and as any ASGI app does."""
    told = [name if name.startswith("inferway.") else (name, scope[name]) for name in sorted(scope)]
    is_slow = scope["path"] == "/slow"
    for _ in range(4 * is_slow):
        await asyncio.sleep(0)
    if WHOLE_BODY in scope and not is_slow:
        told += ["whole", scope[WHOLE_BODY]()]
    else:
        more = True
        while more:
            message = await receive()
            told.append(message)
            more = message.get("more_body", False)
    body = repr(told).encode()
    head = (b"content-length", b"%d" % len(body))
    if WHOLE_REPLY in scope and scope[WHOLE_REPLY](b"%b: %b\r\n" % head, body):
        return
    await send({"type": "http.response.start", "status": 200, "headers": [head]})
    await send({"type": "http.response.body", "body": body})


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.pauses = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.written.append(b"<closed>")

    def is_closing(self) -> bool:
        return b"<closed>" in self.written

    def get_extra_info(self, _: str, default: object = None) -> object:
        return default

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        """Nothing to do."""


def a_connection(app: Any = echo) -> tuple[HttpConnection, Transport]:
    config = uvicorn.Config(app, interface="asgi3", http=HttpConnection, ws="none", log_config=None)
    config.load()
    connection, transport = (
        HttpConnection(config=config, server_state=ServerState(), app_state={}),
        Transport(),
    )
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, transport


async def settle() -> None:
    """Let whatever can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)
