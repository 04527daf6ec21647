"""An HTTP client for answers that are looked at, and for an open loop: it costs about 30 us a request."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from random import Random
from typing import cast

import numpy as np

from loadtests.bench.closed_loop import LoadFailed
from loadtests.open_loop import arrivals
from tests.load import read_reply

OK = b"200"
CONNECTIONS = 256
"""At most; who comes when all are busy waits for one, and that time counts."""
ANSWER_SECONDS = 30.0
"""For one answer that is looked at."""
DRAIN_SECONDS = 5.0
"""After the last request: what has no answer by then has failed."""


async def ask_each(address: str, requests: Sequence[bytes]) -> list[tuple[Mapping[str, str], bytes]]:
    """Headers and body of each request's answer, one after another.

    Raises:
        LoadFailed: one was not answered with 200.
    """
    try:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        with closing(writer):
            return [await _ask(address, request, reader, writer) for request in requests]
    except (OSError, EOFError) as error:
        raise LoadFailed(f"{address} does not answer: {error!r}") from error


async def _ask(
    address: str, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[Mapping[str, str], bytes]:
    writer.write(request)
    async with asyncio.timeout(ANSWER_SECONDS):
        status, headers, body = await read_reply(reader)
    if status != int(OK):
        raise LoadFailed(f"{address} answered {status}: {body[:200]!r}")
    return headers, body


@dataclass(slots=True)
class Arrived:
    """What came of an open loop.

    Attributes:
        seconds: of each request that was answered with 200, from when it was due.
        failed: how many were not.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the times; infinite without an answer."""
        return float(np.percentile(self.seconds, percentile) * 1e3) if self.seconds else float("inf")


class _Pool:
    """Connections that take due requests in turn."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.partition(":")
        self._all: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._due: deque[tuple[float, bytes]] = deque()
        self._opened = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.outcome = Arrived()
        self._pending = 0
        self._nothing_pending = asyncio.Event()
        self._is_closed = False

    def send(self, due: float, request: bytes) -> None:
        """Have it sent by the first connection that is free."""
        self._pending += 1
        self._nothing_pending.clear()
        if self._idle:
            self._idle.pop().ask(due, request)
            return
        self._due.append((due, request))
        if self._opened < CONNECTIONS:
            self._opened += 1
            task = asyncio.ensure_future(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, int(self._port)
            )
        except OSError:
            self._opened -= 1
            if self._due:
                self._due.popleft()
                self.ended(None)

    def free(self, connection: "_Connection") -> None:
        """Give a connection its next request."""
        self._all.add(connection)
        if self._due:
            connection.ask(*self._due.popleft())
        else:
            self._idle.append(connection)

    def ended(self, due: float | None) -> None:
        """Count a request: answered, with when it was due; or None, failed."""
        if self._is_closed:
            return
        self._pending -= 1
        if not self._pending:
            self._nothing_pending.set()
        if due is None:
            self.outcome.failed += 1
        else:
            self.outcome.seconds.append(time.monotonic() - due)

    def lost(self, connection: "_Connection") -> None:
        """Forget a connection that is closed."""
        self._opened -= 1
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def drained(self, seconds: float) -> None:
        """Wait until all is answered, or for so long."""
        if self._pending:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nothing_pending.wait(), seconds)

    async def close(self) -> None:
        """Close every connection; what is pending has failed."""
        self._is_closed = True
        self.outcome.failed += self._pending
        await asyncio.gather(*self._tasks)
        for connection in self._all:
            connection.transport.abort()
        await asyncio.sleep(0)  # for what they call when they are closed


class _Connection(asyncio.Protocol):
    """One request at a time."""

    transport: asyncio.Transport

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._asked: float | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's inherits from no class of asyncio
        self._pool.free(self)

    def ask(self, due: float, request: bytes) -> None:
        self._asked = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head):
            return
        asked, self._asked = self._asked, None
        self._pool.ended(asked if head.split(b" ", 2)[1] == OK else None)
        self._received = b""
        self._pool.free(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._pool.lost(self)
        if self._asked is not None:
            self._pool.ended(None)


def content_length(head: bytes) -> int:
    """Of a reply's body, from its head; 0 where it says none."""
    lower = head.lower()
    at = lower.find(b"\ncontent-length:")
    return 0 if at < 0 else int(lower[at + 16 :].split(b"\r\n", 1)[0])


async def open_loop(
    address: str, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int
) -> Arrived:
    """Send requests in turn at random times (a Poisson process), whatever becomes of those before.

    Args:
        address: host:port.
        requests: whole HTTP requests.
        rate: requests a second on average.
        seconds: how long.
        seed: of the times.
    """
    pool = _Pool(address)
    number = 0
    async for due in arrivals(rate, max(1, round(rate * seconds)), Random(seed)):
        pool.send(due, requests[number % len(requests)])
        number += 1
    await pool.drained(DRAIN_SECONDS)
    await pool.close()
    return pool.outcome
