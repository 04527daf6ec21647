"""Our gRPC server with a few methods, and clients for it: of h2, and of scripted bytes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from grpc import StatusCode
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

from gateway.http2 import frames
from gateway.http2.frames import HEAD_BYTES, PREFACE, frame, header, parse_head
from gateway.protocols.grpc_methods import Context, Failed, Method, Methods
from tests.grpc_serving import GrpcServing

SERVICE = "/inferway.test.Echo"
ECHO, WAIT, BIG, FAIL, MANY = (f"{SERVICE}/{name}" for name in ("Echo", "Wait", "Big", "Fail", "Many"))
SOON = 5.0
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


class H2Client:
    """A connection that keeps to the rules, as h2 does.

    Attributes:
        h2: its state.
        replies: body, trailers and reset of each stream.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.ended: dict[int, Any] = {}
        self.is_told_to_leave = False
        self.gives_room = True
        self._reader, self._writer = reader, writer
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None]

    @classmethod
    async def to(cls, address: str, window: int) -> Self:
        """Connect."""
        host, _, port = address.partition(":")
        client = cls(*await asyncio.open_connection(host, int(port)))
        client.h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        client.h2.initiate_connection()
        client.flush()
        client._task = asyncio.create_task(client._read())
        return client

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    async def _read(self) -> None:
        while chunk := await self._reader.read(65_536):
            for event in self.h2.receive_data(chunk):
                self._on(event)
            self.flush()
            self._changed.set()

    def _on(self, event: Any) -> None:
        if isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + (event.data or b"")
            if self.gives_room:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, ResponseReceived | TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, StreamEnded):
            self.ended[event.stream_id] = 0
        elif isinstance(event, StreamReset):
            self.ended.setdefault(event.stream_id, int(event.error_code))
        elif isinstance(event, ConnectionTerminated):
            self.is_told_to_leave = True

    def start(self, path: str, *extra: tuple[str, str]) -> int:
        stream = self.h2.get_next_available_stream_id()
        pairs = [(name, path if name == ":path" else value) for name, value in HEADERS]
        self.h2.send_headers(stream, [*pairs, *extra])
        self.flush()
        return stream

    async def send(self, stream: int, body: bytes, *, ends: bool = True, padding: int | None = None) -> None:
        """As fast as the windows allow."""
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            room -= 0 if padding is None else padding + 1
            if room <= 0:
                self._changed.clear()
                async with asyncio.timeout(SOON):
                    await self._changed.wait()
                continue
            self.h2.send_data(stream, body[:room], pad_length=padding)
            body = body[room:]
            self.flush()
        if ends:
            self.h2.end_stream(stream)
            self.flush()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(SOON):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def call(self, path: str, message: bytes, *extra: tuple[str, str], **options: Any) -> bytes:
        """A call's reply."""
        stream = self.start(path, *extra)
        await self.send(stream, enveloped(message), **options)
        await self.until(lambda: stream in self.ended)
        assert self.trailers[stream]["grpc-status"] == "0", self.trailers[stream]
        return self.bodies[stream][5:]

    async def close(self) -> None:
        self._task.cancel()
        self._writer.transport.abort()
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


@asynccontextmanager
async def by_h2(window: int = 65_535, **limits: Any) -> AsyncIterator[tuple[Echo, H2Client]]:
    """The server, and a client of h2."""
    async with serving(**limits) as (echo, server):
        client = await H2Client.to(server.address, window)
        try:
            yield echo, client
        finally:
            await client.close()
