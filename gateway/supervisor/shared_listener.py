"""Takes connections from a socket that several processes share, each about as many as the others.

All of them are woken by a connection, and left alone the one that the kernel wakes first takes nearly all: 64
connections to two idle processes went 64 to 0. So each process counts its connections where all can read it,
and one that has more than another gives way for a moment before it takes one more. Envoy balances the same
way: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener.proto (exact_balance).
`SO_REUSEPORT` spreads by chance only, and a process that ends resets what waits in its own queue.
"""

import asyncio
import mmap
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import structlog
from starlette.types import ASGIApp

from gateway.server import HttpServer, http_config
from gateway.settings import ServerSettings

GIVE_WAY_SECONDS = 0.002
"""How long another process may take to accept in place of one that has more connections."""
PAUSE_SECONDS = 0.5
"""How long nothing is accepted after the system had no file left for it."""
OPENING_SECONDS = 1.0
"""How long the end waits for handshakes that have begun."""
ABSENT = -1

_COUNT = struct.Struct("=i")
_log = structlog.get_logger()


class Shares:
    """How many connections each process has, in memory that all of them map.

    Args:
        file: the number of an open file of `size_bytes`.
        processes: how many there are.
    """

    def __init__(self, file: int, processes: int) -> None:
        self._processes = processes
        self._counts = mmap.mmap(file, self.size_bytes(processes))

    @staticmethod
    def size_bytes(processes: int) -> int:
        """How large the file must be."""
        return _COUNT.size * processes

    def set(self, process: int, connections: int) -> None:
        """Tell the others; `ABSENT` for a process that takes none."""
        _COUNT.pack_into(self._counts, _COUNT.size * process, connections)

    def is_over(self, process: int) -> bool:
        """Whether it has more than another one that takes any."""
        counts = [_COUNT.unpack_from(self._counts, _COUNT.size * each)[0] for each in range(self._processes)]
        return any(ABSENT < count < counts[process] for count in counts)


class _Counted(set[Any]):
    """uvicorn's set of connections; tells how many there are."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._tell = tell

    def add(self, connection: Any) -> None:
        super().add(connection)
        self._tell(len(self))

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        self._tell(len(self))


class _SharedListener:
    """What uvicorn has `loop.create_server` for, on a socket that is shared."""

    def __init__(
        self,
        listener: socket.socket,
        new_connection: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        is_over: Callable[[], bool],
    ) -> None:
        self._listener = listener
        self._new_connection = new_connection
        self._tls = tls
        self._is_over = is_over
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[Any]] = set()
        self._loop.add_reader(listener, self._readable)

    async def aclose(self) -> None:
        """Take no more; what was taken has become a connection when this returns."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._loop.remove_reader(self._listener)
        if self._opening:
            await asyncio.wait(self._opening, timeout=OPENING_SECONDS)

    def _readable(self) -> None:
        if self._is_over():
            self._wait(GIVE_WAY_SECONDS)
        else:
            self._accept()

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._waiting = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._waiting = None
        self._loop.add_reader(self._listener, self._readable)
        self._accept()  # whoever has fewer had the time to

    def _accept(self) -> None:
        """Take one connection, if it is still there: the next turn of the loop is for the next."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            _log.error("connection_not_accepted", error=str(error))
            self._wait(PAUSE_SECONDS)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._new_connection, connection, ssl=self._tls)
        except (OSError, ssl.SSLError) as error:
            _log.debug("connection_not_opened", error=str(error))
            connection.close()


class SharedHttpServer(HttpServer):
    """A uvicorn server on a socket that is shared.

    Args:
        app: what it serves.
        settings: of the listeners.
        tls: of the port, if it has any.
        shares: of all processes.
        process: which this one is.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        tls: ssl.SSLContext | None,
        *,
        shares: Shares,
        process: int,
    ) -> None:
        super().__init__(http_config(app, settings, tls))
        self._shares = shares
        self._process = process
        self._listeners: list[_SharedListener] = []
        self.server_state.connections = _Counted(self._tell)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        config = self.config

        def new_connection() -> asyncio.Protocol:
            protocol: Any = config.http_protocol_class
            made: asyncio.Protocol = protocol(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        for listener in sockets or []:
            listener.setblocking(False)
            listener.listen(config.backlog)
            self._shares.set(self._process, 0)
            shared = _SharedListener(
                listener, new_connection, config.ssl, lambda: self._shares.is_over(self._process)
            )
            self._listeners.append(shared)
        self.servers = []
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and end what there is."""
        for listener in self._listeners:
            await listener.aclose()
        self._shares.set(self._process, ABSENT)
        self._listeners.clear()
        await super().shutdown(sockets)

    def _tell(self, connections: int) -> None:
        if self._listeners:  # else it takes none, and whoever does has nobody to give way to
            self._shares.set(self._process, connections)
