"""Servers that break HTTP/2's rules: every call ends, and nothing else does."""

import asyncio
import random
import struct
from contextlib import suppress

import pytest
import uvloop
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http2 import frames
from gateway.http2.call import CallFailed
from gateway.http2.connection import WRITE_BYTES
from gateway.http2.frames import FRAME_BYTES, HEAD_BYTES, frame, frame_head, header
from tests.fakes import settle, until
from tests.unit.http2.http2_rig import Raw, Server, answered, data, enveloped, failure, opening, trailers

PROTOCOL, FLOW, SIZE, COMPRESSION = 0x1, 0x3, 0x6, 0x9
BROKEN = {
    "a push": (frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2"), PROTOCOL),
    "an oversized frame": (frame_head(FRAME_BYTES + 1, frames.DATA, 0, 1), SIZE),
    "an oversized frame of an unknown kind": (frame_head(FRAME_BYTES + 1, 0xBE, 0, 0), SIZE),
    "data on stream 0": (data(0, b"x"), PROTOCOL),
    "headers on stream 0": (trailers(0), PROTOCOL),
    "a reset of stream 0": (frame(frames.RST_STREAM, 0, 0, bytes(4)), PROTOCOL),
    "a short reset": (frame(frames.RST_STREAM, 0, 1, bytes(3)), SIZE),
    "a long reset": (frame(frames.RST_STREAM, 0, 1, bytes(5)), SIZE),
    "a short goaway": (frame(frames.GOAWAY, 0, 0, bytes(7)), SIZE),
    "half a setting": (frame(frames.SETTINGS, 0, 0, bytes(5)), SIZE),
    "a short ping": (frame(frames.PING, 0, 0, bytes(7)), SIZE),
    "a long ping": (frame(frames.PING, 0, 0, bytes(9)), SIZE),
    "a short window update": (frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    "an empty window update": (frame(frames.WINDOW_UPDATE, 0, 1, b""), SIZE),
    "a window too large": (frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**31),)), FLOW),
    "padding without data": (frame(frames.DATA, frames.PADDED, 1, b""), PROTOCOL),
    "more padding than data": (frame(frames.DATA, frames.PADDED, 1, b"\7abc"), PROTOCOL),
    "a continuation of nothing": (frame(frames.CONTINUATION, frames.END_HEADERS, 1, b""), PROTOCOL),
    "a continuation of another stream": (
        frame(frames.HEADERS, 0, 1, b"") + frame(frames.CONTINUATION, frames.END_HEADERS, 3, b""),
        PROTOCOL,
    ),
    "an interrupted block": (frame(frames.HEADERS, 0, 1, b"") + data(1, b"x"), PROTOCOL),
    "a block of two": (frame(frames.HEADERS, 0, 1, b"") * 2, PROTOCOL),
    "headers that are none": (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff"), COMPRESSION),
    "headers of over 64 KiB": (
        frame(frames.HEADERS, 0, 1, header("x", "y" * 70_000)[:16_000])
        + b"".join(
            frame(frames.CONTINUATION, 4 * (at == 64_000), 1, header("x", "y" * 70_000)[at : at + 16_000])
            for at in range(16_000, 70_000, 16_000)
        ),
        COMPRESSION,
    ),
    "a block that never ends": (
        frame(frames.HEADERS, 0, 1, bytes(FRAME_BYTES))
        + frame(frames.CONTINUATION, 0, 1, bytes(FRAME_BYTES)) * 64,
        PROTOCOL,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_who_breaks_the_rules_loses_the_connection_and_every_call_on_it(name: str) -> None:
    said, code = BROKEN[name]
    async with Server.serving(Raw) as server:
        server.script = lambda _, __: None
        calls = [server.call(), server.call()]
        await until(lambda: server.raws and len(server.raw.kinds(frames.DATA)) == 2)
        (connection,) = server.channel._connections
        written: list[bytes] = []
        connection._transport = _Recording(connection._transport, written)  # type: ignore[assignment]
        server.raw.say(said)
        for call in calls:
            status, text, was_sent = await failure(call)
            assert (status, was_sent) == (StatusCode.UNAVAILABLE, True)
            assert text.startswith("HTTP/2: ")
        assert written == [frame(frames.GOAWAY, 0, 0, struct.pack(">II", 0, code))]
        await until(lambda: server.raw.is_lost)
        server.script = lambda raw, stream: raw.say(answered(stream))
        assert await server.call() == b"ok"


class _Recording:
    """A transport that keeps what is written: an aborted one need not bring it to the other side."""

    def __init__(self, transport: asyncio.Transport, written: list[bytes]) -> None:
        self._transport = transport
        self._written = written

    def write(self, data: bytes) -> None:
        self._written.append(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


@pytest.mark.parametrize(
    "asked", [frame(frames.PING, 0, 0, bytes(8)), frames.settings(())], ids=["pings", "settings"]
)
async def test_who_asks_on_and_on_and_reads_no_answer_loses_the_connection(asked: bytes) -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda _, __: None
        call = server.call()
        await until(lambda: server.raws and server.raw.kinds(frames.DATA))
        (connection,) = server.channel._connections
        server.raw.transport.pause_reading()
        while not call.done():
            server.raw.say(asked * 1000)
            await asyncio.sleep(0)
            assert connection._transport.get_write_buffer_size() < WRITE_BYTES + 1000 * (len(asked) + 1)
        status, text, was_sent = await failure(call)
        assert (status, was_sent) == (StatusCode.UNAVAILABLE, True)
        assert text == "HTTP/2: the server asks on and on, and reads no answer"


async def test_who_reads_again_may_ask_again() -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda _, __: None
        call = server.call()
        await until(lambda: server.raws and server.raw.kinds(frames.DATA))
        (connection,) = server.channel._connections
        for _ in range(3):
            connection.pause_writing()
            connection.data_received(frame(frames.PING, 0, 0, bytes(8)) * 1000)
            connection.resume_writing()
        server.raw.say(answered(1))
        assert await call == b"ok"


@pytest.mark.parametrize("allowed", [0, 1, 2**24, 2**32 - 1])
async def test_a_frame_size_that_http_2_has_not_is_not_used(allowed: int) -> None:
    async with Server.serving(Raw, max_request_bytes=20_000_000) as server:
        server.greeting = frames.settings(
            ((frames.MAX_FRAME_SIZE, allowed), (frames.INITIAL_WINDOW_SIZE, 2**31 - 1))
        ) + frame(frames.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
        assert await server.call(bytes(2**24 + 100)) == b"ok"


VALID = (
    opening(1),
    data(1, enveloped(b"hello")),
    trailers(1),
    answered(3),
    opening(5),
    frames.settings(((frames.INITIAL_WINDOW_SIZE, 10), (frames.MAX_CONCURRENT_STREAMS, 1))),
    frames.settings(((frames.INITIAL_WINDOW_SIZE, 100_000), (frames.MAX_CONCURRENT_STREAMS, 100))),
    frame(frames.SETTINGS, frames.ACK, 0, b""),
    frame(frames.PING, 0, 0, bytes(8)),
    frame(frames.GOAWAY, 0, 0, struct.pack(">II", 1, 0)),
    frame(frames.RST_STREAM, 0, 3, struct.pack(">I", 7)),
    frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\xff\xff"),
    frame(frames.WINDOW_UPDATE, 0, 1, b"\0\0\xff\xff"),
    frame(frames.HEADERS, frames.PADDED | frames.PRIORITISED, 5, b"\1" + bytes(6)),
    frame(frames.CONTINUATION, frames.END_HEADERS, 5, header("grpc-status", "0")),
)


def mutated(said: bytes, seed: int) -> bytes:
    """A frame with some bytes changed, or its end cut off, or neither."""
    chance, changed = random.Random(seed), bytearray(said)  # noqa: S311
    for _ in range(chance.choice((0, 0, 1, 3))):
        at = chance.randrange(min(len(changed), HEAD_BYTES) if chance.random() < 0.5 else len(changed))
        changed[at] = chance.randrange(256)
    return bytes(changed[: -chance.randrange(1, 4)]) if chance.random() < 0.1 else bytes(changed)


PIECE = st.one_of(
    st.builds(mutated, st.sampled_from(VALID), st.integers(0, 2**32)),
    st.binary(max_size=40),
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=20)),
)


async def _converse(pieces: list[bytes]) -> None:
    escaped: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    async with Server.serving(Raw) as server:

        def script(raw: Raw, _: int) -> None:
            raw.say(*pieces)
            raw.transport.close()

        server.script = script
        calls = [server.call(message, timeout=0.03) for message in (b"a", bytes(100_000), b"b", b"c")]
        done, pending = await asyncio.wait(calls, timeout=20)
        assert not pending
        for call in done:
            with suppress(CallFailed):
                call.result()
        connections = [*server.channel._connections]
    for connection in connections:
        assert not connection._calls
        assert not connection._waiting
        assert not connection._sending.blocked
    await settle()
    assert not escaped


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_whatever_a_server_says_every_call_ends_and_nothing_escapes(factory: type) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(PIECE, min_size=1, max_size=8))
        def fuzz(pieces: list[bytes]) -> None:
            runner.run(_converse(pieces))

        fuzz()
