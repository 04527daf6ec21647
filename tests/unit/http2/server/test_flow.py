"""Windows, both ways: what is sent keeps to the client's, and what is held is bounded by ours."""

import asyncio

import pytest

from gateway.http2 import frames
from gateway.http2.frames import frame
from tests.unit.http2.server.h2_client import by_h2
from tests.unit.http2.server.server_rig import (
    BIG,
    ECHO,
    MANY,
    WAIT,
    call,
    data,
    enveloped,
    opening,
    raw,
)


def given(client_window: bytes) -> int:
    return int.from_bytes(client_window, "big")


@pytest.mark.parametrize("window", [1, 1000, 65_535, 2**20])
async def test_a_reply_keeps_to_the_clients_window(window: int) -> None:
    size = 300 if window == 1 else 100_000
    async with by_h2(window) as (_, client):  # h2 raises if it does not
        assert len(await client.call(BIG, str(size).encode())) == size


async def test_replies_take_turns() -> None:
    settings = frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**30),))
    async with raw(settings, frames.window_update(0, 2**30)) as (_, client):
        client.say(call(1, b"3000000", (":path", BIG)), call(3, b"3000000", (":path", BIG)))
        await client.until(lambda: client.is_ended(1) and client.is_ended(3))
        order = [one[2] for one in client.kinds(frames.DATA)]
        assert {1, 3} <= set(order[: len(order) // 10])


async def test_a_small_reply_does_not_wait_for_a_large_one() -> None:
    async with raw(call(1, b"200000", (":path", BIG))) as (_, client):
        await client.until(lambda: len(client.body(1)) == 65_535)
        client.say(frames.window_update(0, 1000), call(3, b"small"))
        assert await client.answered(3) == b"small"
        client.say(frames.window_update(0, 200_000), frames.window_update(1, 200_000))
        assert len(await client.answered(1)) == 200_000


async def test_a_window_may_shrink_below_nothing_and_grow_again() -> None:
    async with raw(call(1, b"100000", (":path", BIG))) as (_, client):
        await client.until(lambda: len(client.body(1)) == 65_535)
        client.say(frames.settings(((frames.INITIAL_WINDOW_SIZE, 10),)), frames.window_update(0, 2**20))
        client.say(frames.window_update(1, 65_000))
        await client.round_trip()
        assert len(client.body(1)) == 65_535
        client.say(frames.settings(((frames.INITIAL_WINDOW_SIZE, 65_535),)))
        assert len(await client.answered(1)) == 100_000


async def test_larger_frames_are_used_where_the_client_allows_them() -> None:
    settings = frames.settings(((frames.MAX_FRAME_SIZE, 50_000),))
    async with raw(settings, call(1, b"60000", (":path", BIG))) as (_, client):
        await client.answered(1)
        assert max(len(one[3]) for one in client.kinds(frames.DATA)) == 50_000


@pytest.mark.parametrize("padding", [None, 0, 200])
async def test_a_large_message_is_given_room(padding: int | None) -> None:
    async with by_h2(window=2**22) as (_, client):
        message = bytes(1_000_000)
        assert await client.call(ECHO, message, padding=padding) == message


async def test_large_messages_get_room_in_turn_and_none_is_left_behind() -> None:
    async with by_h2(window=2**22, message_bytes=100_000) as (_, client):
        client.h2.increment_flow_control_window(2**24)
        streams = [client.start(ECHO) for _ in range(30)]
        body = enveloped(bytes(99_000))
        await asyncio.gather(*(client.send(stream, body) for stream in streams))
        await client.until(lambda: len(client.ended) == 30)
        assert {client.trailers[stream]["grpc-status"] for stream in streams} == {"0"}


async def test_what_large_messages_may_bring_is_bounded() -> None:
    head = enveloped(bytes(100_000))[:1000]
    async with raw(message_bytes=100_000) as (_, client):
        for stream in range(1, 41, 2):
            client.say(opening(stream), data(stream, head, 0))
        await client.round_trip()
        granted = sum(given(one[3]) for one in client.kinds(frames.WINDOW_UPDATE) if one[2])
        assert granted <= 4 * 100_000
        first, *_ = [one[2] for one in client.kinds(frames.WINDOW_UPDATE) if one[2]]
        before = len(client.kinds(frames.WINDOW_UPDATE))
        client.say(frame(frames.RST_STREAM, 0, first, bytes(4)))
        await client.round_trip()
        assert len(client.kinds(frames.WINDOW_UPDATE)) > before  # another's turn


async def test_a_stream_that_is_not_read_is_given_no_more_room() -> None:
    async with raw(opening(1, (":path", MANY))) as (echo, client):
        sent = 0
        message = enveloped(bytes(5_000))
        while sent + len(message) <= 65_535:
            client.say(data(1, message, 0))
            sent += len(message)
        await client.round_trip()
        assert not [one for one in client.kinds(frames.WINDOW_UPDATE) if one[2]]
        echo.is_open.set()
        await client.until(lambda: [one for one in client.kinds(frames.WINDOW_UPDATE) if one[2]])
        client.say(frames.window_update(1, 2**20), frames.window_update(0, 2**20), data(1, b""))
        await client.until(lambda: client.is_ended(1))
        assert len(client.body(1)) == sent


async def test_a_stream_may_go_on_for_ever() -> None:
    async with by_h2(window=2**22) as (echo, client):
        echo.is_open.set()
        stream = client.start(MANY)
        for _ in range(100):
            await client.send(stream, enveloped(bytes(20_000)), ends=False)
        await client.send(stream, b"")
        await client.until(lambda: stream in client.ended)
        assert len(client.bodies[stream]) == 100 * 20_005


async def test_the_connections_window_never_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http2.server_connection.RECEIVE_BYTES", 200_000)
    async with by_h2(window=2**22) as (_, client):
        for _ in range(20):
            assert await client.call(ECHO, bytes(60_000)) == bytes(60_000)


async def test_a_refused_call_is_sent_no_more_than_it_has_room_for() -> None:
    async with raw(opening(1), data(1, enveloped(b"")[:1] + b"\xff\xff\xff\xff", 0)) as (_, client):
        assert await client.refused(1) == 0  # NO_ERROR: its answer has come, the rest is not wanted
        assert b"grpc-status\x018" in client.trailers(1)
        client.say(data(1, bytes(10_000), 0), data(1, b""), call(3))
        assert await client.answered(3) == b"hello"
        assert len(client.kinds(frames.RST_STREAM)) == 1


async def test_replies_to_a_client_that_reads_nothing_wait_with_their_streams() -> None:
    settings = frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**31 - 1),))
    async with raw(settings, frames.window_update(0, 2**30), streams=50) as (_, client):
        await client.until(lambda: client.kinds(frames.SETTINGS))
        client.reads.clear()
        for stream in range(1, 201, 2):
            client.say(call(stream, b"300000", (":path", BIG)))
        await asyncio.sleep(0.2)
        client.reads.set()
        await client.until(lambda: len([one for one in client.kinds(frames.HEADERS) if one[1] & 1]) >= 50)
        await client.until(lambda: client.kinds(frames.RST_STREAM))
        refused = {one[3] for one in client.kinds(frames.RST_STREAM)}
        assert refused == {frames.REFUSED_STREAM.to_bytes(4, "big")}


async def test_a_reply_whose_deadline_has_passed_waits_no_longer_for_room() -> None:
    late = call(1, b"200000", (":path", BIG), ("grpc-timeout", "100m"))
    async with raw(late) as (_, client):
        await client.round_trip()
        client.say(call(3, b"", (":path", WAIT), ("grpc-timeout", "100m")))
        await client.until(lambda: client.is_ended(3))
        assert b"grpc-status\x014" in client.trailers(3)
