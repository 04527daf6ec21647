"""Servers for the tests of the HTTP/2 client: one that h2 speaks for, and one of scripted bytes."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self, cast

from grpc import StatusCode
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes, Settings

from gateway.backends.grpc_channel import GrpcChannel
from gateway.http2 import frames
from gateway.http2.call import CallFailed
from gateway.http2.frames import HEAD_BYTES, PREFACE, frame, header, parse_head

PATH = "/inferway.test.Echo/Answer"
MAX_BYTES = 4_000_000
OPENING = [(b":status", b"200"), (b"content-type", b"application/grpc")]
OK = [(b"grpc-status", b"0")]


def enveloped(message: bytes) -> bytes:
    """As gRPC sends a message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class Request:
    """What a peer was sent on one stream."""

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self.headers = headers
        self.body = bytearray()
        self.is_whole = False
        self.reset: int | None = None

    @property
    def message(self) -> bytes:
        return bytes(self.body[5:])


class Peer(asyncio.Protocol):
    """A connection's server side that keeps to the rules, as h2 does.

    Args:
        server: whose connection it is.
    """

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.requests: dict[int, Request] = {}
        self.is_lost = False
        self._unsent: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.peers.append(self)
        self.h2.local_settings = Settings(client=False, initial_values=self.server.settings)
        self.h2.max_inbound_frame_size = self.h2.local_settings.max_frame_size
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.requests[event.stream_id] = Request(dict(event.headers))
            elif isinstance(event, DataReceived):
                stream = event.stream_id
                self.requests[stream].body += event.data or b""
                if self.server.gives_room:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, StreamEnded):
                self.requests[event.stream_id].is_whole = True
                self.server.answer(self, event.stream_id)
            elif isinstance(event, StreamReset):
                self.requests[event.stream_id].reset = int(event.error_code)
            elif isinstance(event, WindowUpdated):
                self._go_on()
        self.flush()

    def flush(self) -> None:
        if not self.is_lost:
            self.transport.write(self.h2.data_to_send())

    def reply(self, stream: int, body: bytes, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        """A whole answer, as the windows allow."""
        self.h2.send_headers(stream, OPENING)
        self._unsent[stream] = body
        self._trailers = OK if trailers is None else trailers
        self._go_on()
        self.flush()

    def _go_on(self) -> None:
        for stream, body in [*self._unsent.items()]:
            left = body
            while left and (room := self.h2.local_flow_control_window(stream)):
                piece = left[: min(room, self.h2.max_outbound_frame_size)]
                left = left[len(piece) :]
                self.h2.send_data(stream, piece)
            self._unsent[stream] = left
            if not left:
                del self._unsent[stream]
                self.h2.send_headers(stream, self._trailers, end_stream=True)

    def say(self, *data: bytes) -> None:
        """Bytes that h2 would not send."""
        self.transport.write(b"".join(data))


def echo(peer: Peer, stream: int) -> None:
    peer.reply(stream, bytes(peer.requests[stream].body))


def silent(_: Peer, __: int) -> None:
    """Let the call wait."""


class Raw(asyncio.Protocol):
    """A connection's server side that says what it is told to, and keeps the frames that it hears."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.heard: list[tuple[int, int, int, bytes]] = []
        self.is_lost = False
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.raws.append(self)
        self.say(self.server.greeting)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.startswith(PREFACE):
            del self._buffer[: len(PREFACE)]
        while len(self._buffer) >= HEAD_BYTES:
            high, low, kind, flags, stream = parse_head(self._buffer, 0)
            end = HEAD_BYTES + (high << 8 | low)
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEAD_BYTES:end])
            del self._buffer[:end]
            self.heard.append((kind, flags, stream, payload))
            if kind == frames.DATA and flags & frames.END_STREAM:
                self.server.script(self, stream)

    def kinds(self, kind: int) -> list[tuple[int, int, int, bytes]]:
        return [one for one in self.heard if one[0] == kind]

    def say(self, *data: bytes) -> None:
        self.transport.write(b"".join(data))


def block(*pairs: tuple[str, str]) -> bytes:
    return b"".join(header(*pair) for pair in pairs)


def headers(stream: int, *pairs: tuple[str, str], flags: int = frames.END_HEADERS) -> bytes:
    return frame(frames.HEADERS, flags, stream, block(*pairs))


def data(stream: int, body: bytes, flags: int = 0) -> bytes:
    return frame(frames.DATA, flags, stream, body)


def opening(stream: int) -> bytes:
    return headers(stream, (":status", "200"), ("content-type", "application/grpc"))


def trailers(stream: int, *pairs: tuple[str, str]) -> bytes:
    flags = frames.END_HEADERS | frames.END_STREAM
    return headers(stream, *(pairs or (("grpc-status", "0"),)), flags=flags)


def goaway(last: int) -> bytes:
    return frame(frames.GOAWAY, 0, 0, last.to_bytes(4, "big") + bytes(4) + b"bye")


def answered(stream: int, message: bytes = b"ok") -> bytes:
    """A whole answer in a few frames."""
    return opening(stream) + data(stream, enveloped(message)) + trailers(stream)


class Server:
    """Where peers are; what they do is changed by the test at any time.

    Attributes:
        peers: its connections, of h2.
        raws: its connections, of scripted bytes.
        settings: of each new peer.
        answer: what a peer does with a whole request.
        gives_room: whether a peer enlarges windows by what it was sent.
        greeting: what a scripted connection begins with.
        script: what a scripted connection does after a whole request.
    """

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.raws: list[Raw] = []
        self.settings: dict[SettingCodes, int] = {}
        self.answer: Callable[[Peer, int], None] = echo
        self.gives_room = True
        self.greeting = frames.settings(())
        self.script: Callable[[Raw, int], None] = lambda raw, stream: raw.say(answered(stream))
        self.port = 0
        self.channel: GrpcChannel

    @property
    def peer(self) -> Peer:
        return self.peers[-1]

    @property
    def raw(self) -> Raw:
        return self.raws[-1]

    def call(self, message: bytes = b"hello", timeout: float | None = 10.0) -> asyncio.Future[bytes]:
        return self.channel.method(PATH)(message, timeout=timeout)

    def whole(self) -> list[int]:
        """The streams of the newest peer whose requests have come."""
        return [stream for stream, request in self.peer.requests.items() if request.is_whole]

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, kind: type[Peer] | type[Raw] = Peer, secured: ssl.SSLContext | None = None, **channel: Any
    ) -> AsyncIterator[Self]:
        """A server, and a channel to it."""
        server = cls()
        listener = await asyncio.get_running_loop().create_server(
            lambda: kind(server), "127.0.0.1", 0, ssl=secured
        )
        server.port = listener.sockets[0].getsockname()[1]
        server.channel = GrpcChannel(
            f"127.0.0.1:{server.port}", **{"max_request_bytes": MAX_BYTES, **channel}
        )
        try:
            yield server
        finally:
            await server.channel.aclose()
            listener.close()
            for transport in [
                *(one.transport for one in server.peers),
                *(one.transport for one in server.raws),
            ]:
                transport.abort()
            await listener.wait_closed()


async def failure(call: asyncio.Future[bytes]) -> tuple[StatusCode, str, bool]:
    """How a call fails: its code, its text, and whether it was sent."""
    try:
        async with asyncio.timeout(5):
            reply = await call
    except CallFailed as error:
        return error.code, error.details, error.was_sent
    raise AssertionError(reply)
