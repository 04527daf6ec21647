"""Takes the connections of a port, which several processes may share, each about as many as the others.

Processes that share a port share one socket. All of them are woken by a connection, and left alone the one
that the kernel wakes first takes nearly all: 64 connections to two idle processes went 64 to 0. So each
process counts its connections where all can read it, and one that has more than another gives way for a
moment before it takes one more. Envoy balances the same way:
https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener.proto (exact_balance).
`SO_REUSEPORT` spreads by chance only, and a process that ends resets what waits in its own queue.
"""

import asyncio
import mmap
import resource
import socket
import ssl
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import structlog

GIVE_WAY_SECONDS = 0.002
"""How long another process may take to accept in place of one that has more connections."""
ACCEPT_AT_ONCE = 100
"""How many connections are taken in one turn of the event loop by a process that shares with none."""
PAUSE_SECONDS = 0.5
"""How long nothing is accepted after the system had no file left for it."""
HANDSHAKE_SECONDS = 30.0
"""How long a client may take for TLS."""
LAST_HANDSHAKES_SECONDS = 1.0
"""How long the end waits for those that have begun."""
CLOSE_SECONDS = 1.0
"""How long a client may take to see that its TLS connection is closed."""

_ABSENT = -1
_log = structlog.get_logger()


class Port(IntEnum):
    """A port that processes share."""

    HTTP = 0
    GRPC = 1


class Shares:
    """How many connections each process has at each port, in memory that all of them map.

    Args:
        file: the number of an open file of `size_bytes`, which tells how many processes there are: a process
            that was started later may read another number in its settings.
    """

    def __init__(self, file: int) -> None:
        self._counts = memoryview(mmap.mmap(file, 0)).cast("i")

    @staticmethod
    def size_bytes(processes: int) -> int:
        """How large the file must be."""
        return struct.calcsize("i") * processes * len(Port)

    def of(self, port: Port, process: int) -> "Share":
        """What one process has at one port."""
        processes = len(self._counts) // len(Port)
        return Share(self._counts[processes * port : processes * (port + 1)], process)

    def leave(self, process: int) -> None:
        """It takes no connection any more at any port."""
        for port in Port:
            self.of(port, process).leave()


class Share:
    """What one process has of the connections of one port.

    Args:
        counts: of all processes.
        process: which of them this is.
    """

    def __init__(self, counts: memoryview, process: int) -> None:
        self._counts = counts
        self._process = process

    def enter(self) -> None:
        """It takes connections from now on."""
        self._counts[self._process] = 0

    def tell(self, connections: int) -> None:
        """It has so many; nobody gives way to one that takes none."""
        if self._counts[self._process] != _ABSENT:
            self._counts[self._process] = connections

    def leave(self) -> None:
        """It takes none any more."""
        self._counts[self._process] = _ABSENT

    @property
    def is_over(self) -> bool:
        """Whether it has more than another one that takes any."""
        mine = self._counts[self._process]
        return any(_ABSENT < count < mine for count in self._counts)


class Connections(set[Any]):
    """Those of one port.

    Attributes:
        lost: called when there is one less.
    """

    lost: Callable[[], None] | None = None

    def discard(self, connection: Any) -> None:
        """Forget one that is gone."""
        if connection in self:
            super().discard(connection)
            if self.lost is not None:
                self.lost()


class Listener:
    """Takes connections until it is closed.

    Args:
        bound: a socket that listens; it is closed with the listener.
        new_connection: makes a connection's protocol, which is in `connections` from its start to its end.
        connections: of the port.
        files_divisor: connections may take this part of the files that the process may open, those among them
            whose handshake is under way. One more is closed at once.
        tls: of the port; None in the clear.
        share: of the connections; None where no other process has the port.
    """

    def __init__(
        self,
        bound: socket.socket,
        new_connection: Callable[[], asyncio.Protocol],
        connections: Connections,
        *,
        files_divisor: int,
        tls: ssl.SSLContext | None = None,
        share: Share | None = None,
    ) -> None:
        self._bound = bound
        self._new_connection = new_connection
        self._files_divisor = files_divisor
        self._tls = tls
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._taken = 0  # connections, and handshakes under way
        connections.lost = self._lost
        bound.setblocking(False)
        if share is not None:
            share.enter()
        self._loop.add_reader(bound, self._readable)

    async def aclose(self) -> None:
        """Take those that wait and no more; each has become a connection when this returns, or is closed."""
        if self._bound.fileno() < 0:
            return
        self._loop.remove_reader(self._bound)
        while self._accept():
            pass
        if self._waiting is not None:
            self._waiting.cancel()
        self._bound.close()
        if self._share is not None:
            self._share.leave()
        if self._opening:
            _, late = await asyncio.wait(self._opening, timeout=LAST_HANDSHAKES_SECONDS)
            for task in late:
                task.cancel()

    def _readable(self) -> None:
        if self._share is not None:
            if self._share.is_over:
                self._wait(GIVE_WAY_SECONDS)
            else:
                self._accept()  # the next turn of the loop is for the next: it may be another's
            return
        for _ in range(ACCEPT_AT_ONCE):
            if not self._accept():
                return

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._bound)
        self._waiting = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._waiting = None
        self._loop.add_reader(self._bound, self._readable)
        self._accept()  # whoever has fewer had the time to

    def _accept(self) -> bool:
        """Whether there was one to take."""
        try:
            connection, _ = self._bound.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            _log.error("connection_not_accepted", error=str(error))
            self._wait(PAUSE_SECONDS)
            return False
        if self._taken >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // self._files_divisor:
            connection.close()
            return True
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self._count(1)
        return True

    def _lost(self) -> None:
        self._count(-1)

    def _count(self, more: int) -> None:
        self._taken += more
        if self._share is not None:
            self._share.tell(self._taken)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._new_connection,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
                ssl_shutdown_timeout=CLOSE_SECONDS if self._tls else None,
            )
        except OSError as error:
            _log.debug("connection_not_opened", error=str(error))
            connection.close()
            self._lost()
