"""The gRPC port: its listener, the bounds on what clients may hold, and how it ends."""

import asyncio
import socket
import ssl

from gateway.http2.limits import Limits
from gateway.http2.server_connection import ServerConnection
from gateway.http2.streams import Begin
from gateway.listener import CLOSE_SECONDS, Connections, Listener, Share
from gateway.settings import ServerSettings

OVERHEAD_BYTES = 64 * 1024
"""What a message holds beside its tensors: the limit is on what the client sends, not on our framing."""
METADATA_BYTES = 16 * 1024
"""Of one call; the HTTP port's heads may be larger, since cookies and proxies' headers come there."""
STREAMS = 1000
"""Calls at a time on one connection; further ones wait at the client, or open another."""
FILES_DIVISOR = 4
"""gRPC connections may take this part of the files that the process may open (see http_server)."""
OPENING_SECONDS = 30
"""For the client's first words."""
PING_SECONDS = 60
"""A connection on which nothing came for so long is asked whether it is still there ..."""
PONG_SECONDS = 20
"""... and closed when it does not answer within this."""
CLIENT_PING_SECONDS = 10
"""Clients that ping more often than this, while nothing is sent, are sent away (`too_many_pings`)."""


def limits(settings: ServerSettings) -> Limits:
    """What one client may send and hold."""
    return Limits(
        message_bytes=settings.max_request_bytes + OVERHEAD_BYTES,
        metadata_bytes=METADATA_BYTES,
        streams=STREAMS,
        opening_seconds=OPENING_SECONDS,
        ping_seconds=PING_SECONDS,
        pong_seconds=PONG_SECONDS,
        client_ping_seconds=CLIENT_PING_SECONDS,
        age_seconds=settings.max_connection_age_seconds,
        age_grace_seconds=settings.max_connection_age_grace_seconds,
    )


class GrpcServer:
    """Answers gRPC on one socket.

    Args:
        begin: what answers a call.
        limits: for each client.
        tls: of the port; None in the clear.
        share: of the port's connections; None where no other process has it.
    """

    def __init__(
        self, begin: Begin, limits: Limits, tls: ssl.SSLContext | None = None, *, share: Share | None = None
    ) -> None:
        self._begin = begin
        self._limits = limits
        self._tls = tls
        self._share = share
        self._connections = Connections()
        self._none_left = asyncio.Event()

    def start(self, bound: socket.socket) -> None:
        """Take connections of a socket that listens; it is closed with the server."""
        self._listener = Listener(
            bound,
            lambda: ServerConnection(self._begin, self._limits, self._connections.add, self._closed),
            self._connections,
            files_divisor=FILES_DIVISOR,
            tls=self._tls,
            share=self._share,
        )

    async def stop(self, grace_seconds: float) -> None:
        """Take no connection any more, and end those that there are once their last call is answered.

        Args:
            grace_seconds: after which they end in any case.
        """
        told = {*self._connections}
        for connection in told:
            connection.leave()
        await self._listener.aclose()
        for connection in self._connections - told:  # those that were being opened
            connection.leave()
        await self._until_closed(grace_seconds)
        for connection in [*self._connections]:
            connection.abort()
        await self._until_closed(CLOSE_SECONDS)

    async def _until_closed(self, seconds: float) -> None:
        if self._connections:
            self._none_left.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._none_left.wait()
            except TimeoutError:
                return

    def _closed(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._none_left.set()
