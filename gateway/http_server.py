"""An HTTP port: uvicorn over our own listener."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from gateway.http_connection import HttpConnection
from gateway.listener import Connections, Listener, Share
from gateway.settings import ServerSettings

FILES_DIVISOR = 2
"""HTTP connections may take this part of the files that the process may open. The rest is for gRPC, the admin
port, model servers and Redis: a flood must not look to the probes as if the gateway were dead."""
ADMIN_FILES_DIVISOR = 16
"""Likewise those of the admin port."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open: longer than pools of clients and load balancers keep
theirs (mostly 60), so that it is they who close, and no request meets a closed one."""


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to `serve`, which stops three listeners and not one.

    Args:
        app: what it serves.
        settings: how long the end may take.
        tls: of the port; None in the clear.
        files_divisor: connections may take this part of the files that the process may open.
        share: of the port's connections; None where no other process has it.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        tls: ssl.SSLContext | None,
        *,
        files_divisor: int = FILES_DIVISOR,
        share: Share | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=HttpConnection,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        )
        super().__init__(config)
        self._tls = tls
        self._files_divisor = files_divisor
        self._share = share
        self.server_state.connections = self._connections = Connections()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections of a socket that listens."""

        def new_connection() -> asyncio.Protocol:
            protocol: Any = self.config.http_protocol_class
            made: asyncio.Protocol = protocol(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        (bound,) = sockets or []
        self._listener = Listener(
            bound,
            new_connection,
            self._connections,
            files_divisor=self._files_divisor,
            tls=self._tls,
            share=self._share,
        )
        self.servers = []
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and end what there is."""
        await self._listener.aclose()
        await super().shutdown(sockets)
