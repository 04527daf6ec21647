"""Our gRPC server with a few methods, and a client for it of scripted bytes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from grpc import StatusCode

from gateway.http2 import frames
from gateway.http2.frames import HEAD_BYTES, PREFACE, frame, header, parse_head
from gateway.protocols.grpc_methods import Context, Failed, Method, Methods
from tests.grpc_serving import GrpcServing

SERVICE = "/inferway.test.Echo"
ECHO, WAIT, BIG, FAIL, MANY = (f"{SERVICE}/{name}" for name in ("Echo", "Wait", "Big", "Fail", "Many"))
SOON = 20.0
HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", ECHO),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


class Echo:
    """The methods, and what they have seen.

    Attributes:
        contexts: of the calls that were begun.
        tasks: in which Echo was asked; None where it took none.
        cancelled: how many were cancelled.
        is_open: Wait answers while it is set, as Many reads.
        read: how many messages Many has read.
    """

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.cancelled = 0
        self.is_open = asyncio.Event()
        self.read = 0

    async def echo(self, data: bytes, context: Context) -> bytes:
        self.tasks.append(asyncio.current_task())
        self.contexts.append(context)
        context.trailers.append(("seen", str(len(data))))
        return data

    async def wait(self, data: bytes, context: Context) -> bytes:
        self.contexts.append(context)
        try:
            await self.is_open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return data

    async def big(self, data: bytes, _: Context) -> bytes:
        return bytes(int(data))

    async def fail(self, data: bytes, _: Context) -> bytes:
        raise Failed(StatusCode.NOT_FOUND, data.decode(), (("why", "so"),))

    async def many(self, messages: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
        self.contexts.append(context)
        try:
            while True:
                await self.is_open.wait()
                message = await anext(messages, None)
                if message is None:
                    return
                self.read += 1
                yield message
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def methods(self) -> Methods:
        """By path."""
        return {
            ECHO: Method(self.echo),
            WAIT: Method(self.wait),
            BIG: Method(self.big),
            FAIL: Method(self.fail),
            MANY: Method(self.many, is_streamed=True),
        }


def enveloped(message: bytes, flag: int = 0) -> bytes:
    """As gRPC sends a message."""
    return bytes((flag,)) + len(message).to_bytes(4, "big") + message


def block(*changes: tuple[str, str], base: Iterable[tuple[str, str]] = HEADERS) -> bytes:
    """A header block, with these in place of those of the same name."""
    new = dict(changes)
    pairs = [(name, new.pop(name, value)) for name, value in base]
    return b"".join(header(*pair) for pair in (*pairs, *new.items()))


def opening(stream: int, *changes: tuple[str, str], flags: int = frames.END_HEADERS) -> bytes:
    """The HEADERS of a call."""
    return frame(frames.HEADERS, flags, stream, block(*changes))


def data(stream: int, body: bytes, flags: int = frames.END_STREAM) -> bytes:
    """A DATA frame."""
    return frame(frames.DATA, flags, stream, body)


def call(stream: int, message: bytes = b"hello", *changes: tuple[str, str]) -> bytes:
    """A whole call in two frames."""
    return opening(stream, *changes) + data(stream, enveloped(message))


class Client:
    """A connection of scripted bytes; keeps the frames that it hears.

    Attributes:
        heard: kind, flags, stream and payload of each.
        is_closed: the server has closed it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard: list[tuple[int, int, int, bytes]] = []
        self.is_closed = False
        self.writer = writer
        self._reader = reader
        self._changed = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def to(cls, address: str, *says: bytes, greets: bool = True, **options: Any) -> Self:
        """Connect, and begin as a client does."""
        host, _, port = address.partition(":")
        client = cls(*await asyncio.open_connection(host, int(port), **options))
        if greets:
            client.say(PREFACE, frames.settings(()))
        client.say(*says)
        return client

    def say(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def _read(self) -> None:
        try:
            while True:
                await self.reads.wait()
                head = await self._reader.readexactly(HEAD_BYTES)
                high, low, kind, flags, stream = parse_head(head, 0)
                payload = await self._reader.readexactly(high << 8 | low)
                self.heard.append((kind, flags, stream, payload))
                self._changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_closed = True
            self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for frames to bring it about."""
        async with asyncio.timeout(SOON):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def closed(self) -> None:
        """Wait until the server has closed."""
        await self.until(lambda: self.is_closed)

    def kinds(self, kind: int, stream: int | None = None) -> list[tuple[int, int, int, bytes]]:
        return [one for one in self.heard if one[0] == kind and stream in {None, one[2]}]

    def body(self, stream: int) -> bytes:
        """All DATA of a stream."""
        return b"".join(one[3] for one in self.kinds(frames.DATA, stream))

    def is_ended(self, stream: int) -> bool:
        """Its reply has come, to the end."""
        return any(one[1] & frames.END_STREAM for one in self.kinds(frames.HEADERS, stream))

    def trailers(self, stream: int) -> bytes:
        """The last block of a stream."""
        return self.kinds(frames.HEADERS, stream)[-1][3]

    async def answered(self, stream: int) -> bytes:
        """Wait for a reply, which is a success; its message."""
        await self.until(lambda: self.is_ended(stream))
        assert header("grpc-status", "0") in self.trailers(stream), self.trailers(stream)
        return self.body(stream)[5:]

    async def refused(self, stream: int) -> int:
        """Wait for the reset of a stream; its code."""
        await self.until(lambda: self.kinds(frames.RST_STREAM, stream))
        return int.from_bytes(self.kinds(frames.RST_STREAM, stream)[0][3], "big")

    async def dismissed(self) -> tuple[int, str]:
        """Wait for the end of the connection; the code and the text of it."""
        await self.until(lambda: self.is_closed)
        payload = self.kinds(frames.GOAWAY)[-1][3]
        return int.from_bytes(payload[4:8], "big"), payload[8:].decode()

    async def round_trip(self) -> None:
        """Wait until the server has read all that was said, and its tasks have had a turn."""
        self.say(frame(frames.PING, 0, 0, b"are you?"))
        before = len(self.kinds(frames.PING))
        await self.until(lambda: len(self.kinds(frames.PING)) > before)

    async def close(self) -> None:
        self._task.cancel()
        self.writer.transport.abort()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[tuple[Echo, GrpcServing]]:
    """The server."""
    echo = Echo()
    async with GrpcServing(echo.methods(), **limits) as server:
        yield echo, server


@asynccontextmanager
async def raw(
    *says: bytes, greets: bool = True, buffer_bytes: int = 2**16, **limits: Any
) -> AsyncIterator[tuple[Echo, Client]]:
    """The server, and a client of scripted bytes."""
    async with serving(**limits) as (echo, server):
        client = await Client.to(server.address, *says, greets=greets, limit=buffer_bytes)
        try:
            yield echo, client
        finally:
            await client.close()
