"""Clients that break HTTP/2's rules: the stream or the connection ends as RFC 9113 says, and nothing else."""

import asyncio
import random

import pytest

from gateway.http2 import frames
from gateway.http2.frames import FRAME_BYTES, PREFACE, frame, frame_head, header
from tests.unit.http2.server.server_rig import (
    HEADERS,
    WAIT,
    Client,
    block,
    call,
    data,
    enveloped,
    opening,
    raw,
    serving,
)

PROTOCOL, FLOW, CLOSED, SIZE, COMPRESSION, CALM = 0x1, 0x3, 0x5, 0x6, 0x9, 0xB
OF_CONNECTION = {
    "a push": (frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2"), PROTOCOL),
    "an oversized frame": (frame_head(FRAME_BYTES + 1, frames.DATA, 0, 1), SIZE),
    "data on stream 0": (data(0, b"x"), PROTOCOL),
    "headers on stream 0": (opening(0), PROTOCOL),
    "headers on an even stream": (opening(2), PROTOCOL),
    "a priority on stream 0": (frame(frames.PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "a short priority": (frame(frames.PRIORITY, 0, 1, bytes(4)), SIZE),
    "a reset of stream 0": (frame(frames.RST_STREAM, 0, 0, bytes(4)), PROTOCOL),
    "a reset of an idle stream": (frame(frames.RST_STREAM, 0, 9, bytes(4)), PROTOCOL),
    "a short reset": (frame(frames.RST_STREAM, 0, 1, bytes(3)), SIZE),
    "data on an idle stream": (data(9, b"x"), PROTOCOL),
    "room on an idle stream": (frames.window_update(9, 1), PROTOCOL),
    "settings on a stream": (frame(frames.SETTINGS, 0, 1, b""), PROTOCOL),
    "half a setting": (frame(frames.SETTINGS, 0, 0, bytes(5)), SIZE),
    "an acknowledgement with settings": (frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), SIZE),
    "headers on a stream that was passed over": (call(5) + opening(3), PROTOCOL),
    "a push neither on nor off": (frames.settings(((frames.ENABLE_PUSH, 2),)), PROTOCOL),
    "a window too large": (frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**31),)), FLOW),
    "frames too small": (frames.settings(((frames.MAX_FRAME_SIZE, 16_383),)), PROTOCOL),
    "frames too large": (frames.settings(((frames.MAX_FRAME_SIZE, 2**24),)), PROTOCOL),
    "a ping on a stream": (frame(frames.PING, 0, 1, bytes(8)), PROTOCOL),
    "a short ping": (frame(frames.PING, 0, 0, bytes(7)), SIZE),
    "a goaway on a stream": (frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "a short goaway": (frame(frames.GOAWAY, 0, 0, bytes(7)), SIZE),
    "room for nothing": (frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL),
    "too much room": (frames.window_update(0, 2**31 - 1), FLOW),
    "a short window update": (frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    "more padding than headers": (frame(frames.HEADERS, frames.PADDED | 4, 1, b"\7abc"), PROTOCOL),
    "a continuation of nothing": (frame(frames.CONTINUATION, 4, 1, b""), PROTOCOL),
    "a continuation of another stream": (
        opening(1, flags=0) + frame(frames.CONTINUATION, 4, 3, b""),
        PROTOCOL,
    ),
    "a block that is interrupted": (opening(1, flags=0) + frame(frames.PING, 0, 0, bytes(8)), PROTOCOL),
    "a block of another kind inside": (opening(1, flags=0) + frame(0xBE, 0, 0, b""), PROTOCOL),
    "a block that never ends": (
        opening(1, flags=0) + frame(frames.CONTINUATION, 0, 1, bytes(FRAME_BYTES)) * 5,
        PROTOCOL,
    ),
    "a block of nothing that never ends": (
        opening(1, flags=0) + frame(frames.CONTINUATION, 0, 1, b"") * 200,
        PROTOCOL,
    ),
    "a field that there is not": (frame(frames.HEADERS, 4, 1, b"\xff\x40"), COMPRESSION),
    "a table larger than allowed": (frame(frames.HEADERS, 4, 1, b"\x3f\xe2\x1f"), COMPRESSION),
    "a block that ends early": (frame(frames.HEADERS, 4, 1, b"\x40\x0aab"), COMPRESSION),
    "a number without an end": (frame(frames.HEADERS, 4, 1, b"\xff" * 40), COMPRESSION),
    "bits that are no text": (frame(frames.HEADERS, 4, 1, b"\x40\x84\xff\xff\xff\xff\0"), COMPRESSION),
}
OF_STREAM = {
    "upper case": (opening(1, ("Upper", "x")), PROTOCOL),
    "a header of HTTP/1": (opening(1, ("connection", "close")), PROTOCOL),
    "te other than trailers": (opening(1, ("te", "gzip")), PROTOCOL),
    "an unknown pseudo-header": (opening(1, (":protocol", "x")), PROTOCOL),
    "a line end in a value": (opening(1, ("a", "b\nc")), PROTOCOL),
    "no path": (frame(frames.HEADERS, 4, 1, block(base=[p for p in HEADERS if p[0] != ":path"])), PROTOCOL),
    "an empty path": (opening(1, (":path", "")), PROTOCOL),
    "a pseudo-header twice": (frame(frames.HEADERS, 4, 1, header(":path", "/a") + block()), PROTOCOL),
    "a pseudo-header at the end": (
        frame(frames.HEADERS, 4, 1, block(base=HEADERS[1:]) + header(*HEADERS[0])),
        PROTOCOL,
    ),
    "a body shorter than it says": (call(1, b"hi", ("content-length", "99")), PROTOCOL),
    "no body, and a length": (opening(1, ("content-length", "9"), flags=5), PROTOCOL),
    "trailers that do not end": (opening(1, (":path", WAIT)) + opening(1), PROTOCOL),
    "trailers with a path": (opening(1, (":path", WAIT)) + opening(1, flags=5), PROTOCOL),
    "room for nothing": (opening(1, (":path", WAIT)) + frames.window_update(1, 0), PROTOCOL),
    "too much room": (opening(1, (":path", WAIT)) + frames.window_update(1, 2**31 - 1), FLOW),
    "data after the end": (call(1, b"", (":path", WAIT)) + data(1, b"x"), CLOSED),
    "headers after the end": (call(1, b"", (":path", WAIT)) + opening(1), CLOSED),
    "more than there was room for": (
        opening(1, (":path", WAIT)) + data(1, bytes(FRAME_BYTES), 0) * 5,
        FLOW,
    ),
}


@pytest.mark.parametrize("name", OF_CONNECTION)
async def test_what_breaks_the_connection_ends_it_with_its_code(name: str) -> None:
    says, code = OF_CONNECTION[name]
    async with raw(says) as (_, client):
        assert (await client.dismissed())[0] == code


async def test_headers_on_a_stream_that_is_over_end_the_connection() -> None:
    async with raw(call(1)) as (_, client):
        await client.answered(1)
        client.say(opening(1))
        assert (await client.dismissed())[0] == PROTOCOL


@pytest.mark.parametrize("name", ["half a setting", "a short goaway"])
async def test_who_cuts_a_frame_short_is_told_so_in_our_words(name: str) -> None:
    async with raw(OF_CONNECTION[name][0]) as (_, client):
        assert (await client.dismissed())[1] in {"a part of a setting is missing", "a goaway is cut short"}


@pytest.mark.parametrize("name", OF_STREAM)
async def test_what_breaks_a_stream_ends_it_and_no_other(name: str) -> None:
    says, code = OF_STREAM[name]
    async with raw(says, call(3)) as (_, client):
        assert await client.refused(1) == code
        assert await client.answered(3) == b"hello"
        await client.round_trip()
        assert not client.is_closed


@pytest.mark.parametrize("says", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", PREFACE[:5] + b"x"])
async def test_who_does_not_speak_http_2_is_told_so(says: bytes) -> None:
    async with raw(says, greets=False) as (_, client):
        assert await client.dismissed() == (PROTOCOL, "the client speaks no HTTP/2")


async def test_who_does_not_begin_with_settings_is_told_so() -> None:
    async with raw(PREFACE, frame(frames.PING, 0, 0, bytes(8)), greets=False) as (_, client):
        assert (await client.dismissed())[0] == PROTOCOL


async def test_unknown_frames_settings_and_flags_are_ignored() -> None:
    odd = (
        frame(0xBE, 0xFF, 0, b"x"),
        frame(0xBE, 0xFF, 77, b"x"),
        frames.settings(((0x99, 1),)),
        opening(1) + data(1, enveloped(b"a"), 0xF7),
    )
    async with raw(*odd) as (_, client):
        assert await client.answered(1) == b"a"


async def test_a_call_in_pieces_of_one_byte_is_a_call() -> None:
    async with raw(greets=False) as (_, client):
        for byte in PREFACE + frames.settings(()) + call(1, b"slow"):
            client.say(bytes((byte,)))
            await asyncio.sleep(0)
        assert await client.answered(1) == b"slow"


async def test_a_padded_call_with_a_priority_in_several_blocks_is_a_call() -> None:
    whole = block()
    first = b"\3" + bytes(5) + whole[:20] + bytes(3)
    says = (
        frame(frames.HEADERS, frames.PADDED | frames.PRIORITISED, 1, first)
        + frame(frames.CONTINUATION, 0, 1, whole[20:40])
        + frame(frames.CONTINUATION, frames.END_HEADERS, 1, whole[40:])
        + data(1, b"\2" + enveloped(b"padded") + bytes(2), frames.PADDED | frames.END_STREAM)
    )
    async with raw(says) as (_, client):
        assert await client.answered(1) == b"padded"


async def test_noise_hurts_nobody_else() -> None:
    rng = random.Random(7)  # noqa: S311 - repeatable
    async with serving() as (_, server):
        good = await Client.to(server.address)
        for number in range(150):
            noise = bytearray(call(1) + call(3) + opening(5, flags=0) + frame(frames.PING, 0, 0, bytes(8)))
            for _ in range(rng.randrange(1, 6)):
                noise[rng.randrange(len(noise))] = rng.randrange(256)
            bad = await Client.to(server.address, bytes(noise))
            good.say(call(1 + 2 * number))
            assert await good.answered(1 + 2 * number) == b"hello"
            await bad.close()
        await good.close()
