"""Clients that ask for much with little: they are sent away, and what they began ends."""

import asyncio

import pytest

from gateway.http2 import frames
from gateway.http2.frames import frame, header
from gateway.http2.patience import FREE, Patience
from gateway.http2.server_connection import FRAMES_A_TURN
from tests.fakes import until
from tests.unit.http2.server.server_rig import (
    BIG,
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

CALM = 0xB
RESET = frames.CANCEL.to_bytes(4, "big")
FLOODS = {
    "settings": frames.settings(()),
    "priorities": frame(frames.PRIORITY, 0, 1, bytes(5)),
    "empty data": data(1, b"", 0),
    "resets": frame(frames.RST_STREAM, 0, 1, RESET),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_frames_that_bring_nothing_are_borne_only_so_often(name: str) -> None:
    async with raw(opening(1, (":path", WAIT)), FLOODS[name] * (FREE + 500)) as (_, client):
        assert (await client.dismissed())[0] == CALM


async def test_rapid_resets_end_the_connection_and_begin_nothing() -> None:
    rapid = b"".join(
        opening(stream, (":path", WAIT)) + frame(frames.RST_STREAM, 0, stream, RESET)
        for stream in range(1, 2 * FREE + 1000, 2)
    )
    async with raw(rapid) as (echo, client):
        assert (await client.dismissed())[0] == CALM
        assert not echo.contexts


async def test_resets_of_calls_that_have_begun_cancel_them() -> None:
    async with raw() as (echo, client):
        for stream in range(1, 201, 2):
            client.say(call(stream, b"", (":path", WAIT)))
        await until(lambda: len(echo.contexts) == 100)
        for stream in range(1, 201, 2):
            client.say(frame(frames.RST_STREAM, 0, stream, RESET))
        await until(lambda: echo.cancelled == 100)
        client.say(call(201))
        assert await client.answered(201) == b"hello"


async def test_streams_that_are_made_to_fail_count_as_resets() -> None:
    bad = b"".join(opening(stream, ("te", "gzip")) for stream in range(1, 2 * FREE + 1000, 2))
    async with raw(bad) as (_, client):
        assert (await client.dismissed())[0] == CALM


async def test_more_streams_than_allowed_are_refused() -> None:
    async with raw(*(call(stream, b"", (":path", WAIT)) for stream in (1, 3, 5)), streams=2) as (
        echo,
        client,
    ):
        assert await client.refused(5) == frames.REFUSED_STREAM
        echo.is_open.set()
        assert await client.answered(1) == b""
        client.say(call(7))
        assert await client.answered(7) == b"hello"


@pytest.mark.parametrize("knows", [False, True])
async def test_who_has_not_heard_the_limit_may_be_over_it(knows: bool) -> None:
    acknowledged = frame(frames.SETTINGS, frames.ACK, 0, b"") if knows else b""
    first = 2 * FREE + 1001
    says = acknowledged + b"".join(opening(stream, (":path", WAIT)) for stream in range(1, first, 2))
    async with raw(says, streams=1) as (_, client):
        if knows:
            assert (await client.dismissed())[0] == CALM
        else:
            await client.until(lambda: len(client.kinds(frames.RST_STREAM)) == FREE + 499)
            client.say(frame(frames.RST_STREAM, 0, 1, RESET), call(first))
            assert await client.answered(first) == b"hello"


async def test_who_pings_too_often_while_nothing_is_sent_is_sent_away() -> None:
    async with raw() as (_, client):
        for _ in range(4):
            client.say(frame(frames.PING, 0, 0, bytes(8)))
        assert await client.dismissed() == (CALM, "too_many_pings")


async def test_pings_around_replies_are_no_strikes() -> None:
    async with raw() as (_, client):
        for stream in range(1, 41, 2):
            client.say(frame(frames.PING, 0, 0, bytes(8)), call(stream))
            await client.answered(stream)
        assert not client.is_closed


async def test_pings_while_a_large_reply_is_on_its_way_are_no_strikes() -> None:
    async with raw(call(1, b"3000000", (":path", BIG))) as (_, client):
        while not client.is_ended(1):
            room = frames.window_update(1, 100_000) + frames.window_update(0, 100_000)
            client.say(frame(frames.PING, 0, 0, bytes(8)), room)
            await client.round_trip()
        assert len(client.kinds(frames.PING)) > 20


async def test_pings_at_the_allowed_pace_are_no_strikes() -> None:
    now = 100.0
    patience = Patience(10.0, lambda: now)
    for _ in range(20):
        assert not patience.is_pinged_out(is_busy=False)
        now += 10.0
    assert [patience.is_pinged_out(is_busy=False) for _ in range(4)] == [False, False, False, True]


def test_patience_comes_back_with_time_and_with_answers() -> None:
    now = 0.0
    patience = Patience(10.0, lambda: now)
    assert not any(patience.is_spent() for _ in range(FREE))
    assert patience.is_spent()
    now += 1.0
    assert not any(patience.is_spent() for _ in range(100))
    for _ in range(FREE):
        patience.answered()
    assert not any(patience.is_spent() for _ in range(FREE))


async def test_who_reads_nothing_is_answered_no_more_often_than_others() -> None:
    settings = frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**30),)) + frames.window_update(0, 2**30)
    async with raw(settings) as (_, client):
        await client.until(lambda: client.kinds(frames.SETTINGS))
        client.reads.clear()
        client.say(call(1, b"50000000", (":path", BIG)), frames.settings(()) * (FREE + 500))
        client.reads.set()
        await client.closed()
        assert len(client.kinds(frames.SETTINGS)) <= FREE + 450


BIG_FIELD = b"\x40" + header("x", "y" * 4000)[1:]  # kept in the table


async def test_more_headers_than_allowed_are_refused() -> None:
    many = frame(frames.HEADERS, 5, 3, block() + b"\xbe" * 10)
    async with raw(frame(frames.HEADERS, 5, 1, block() + BIG_FIELD), many, call(5)) as (_, client):
        await client.until(lambda: client.is_ended(3))
        assert b"grpc-status\x018" in client.trailers(3)
        assert await client.answered(5) == b"hello"


async def test_a_bomb_of_headers_is_not_unfolded() -> None:
    bomb = frame(frames.HEADERS, 5, 3, block() + b"\xbe" * 16_000)
    async with raw(frame(frames.HEADERS, 5, 1, block() + BIG_FIELD), bomb) as (_, client):
        assert (await client.dismissed())[0] == CALM


async def test_a_call_that_missed_its_deadline_is_no_rapid_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http2.streams.RAPID_SECONDS", 0.0)
    calls = b"".join(
        opening(stream, (":path", WAIT)) + frame(frames.RST_STREAM, 0, stream, RESET)
        for stream in range(1, 2 * FREE + 1000, 2)
    )
    async with raw(calls) as (_, client):
        last = 2 * FREE + 1001
        client.say(call(last))
        assert await client.answered(last) == b"hello"


async def test_a_table_is_kept_in_step_through_headers_that_are_refused() -> None:
    kept = b"".join(b"\x40" + header("x", f"{n}" * 400)[1:] for n in range(10, 20))
    says = frame(frames.HEADERS, 5, 1, block() + kept), frame(frames.HEADERS, 4, 3, block() + b"\xbe")
    async with raw(*says, data(3, b"\0\0\0\0\0"), metadata_bytes=4096) as (echo, client):
        await client.answered(3)
        assert echo.contexts[0].metadata["x"] == "19" * 400


async def test_who_never_hears_the_limit_may_be_over_it_only_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.http2.streams.HEARING_SECONDS", 0.0)
    says = b"".join(opening(stream, (":path", WAIT)) for stream in range(1, 2 * FREE + 1001, 2))
    async with raw(says, streams=1) as (_, client):
        assert (await client.dismissed())[0] == CALM


@pytest.mark.parametrize("field", [b"\x82", b"\x00\x01a\x00"])
async def test_fields_of_one_block_are_bounded_in_number(field: bytes) -> None:
    async with raw(frame(frames.HEADERS, frames.END_HEADERS, 1, field * 1001)) as (_, client):
        assert await client.dismissed() == (CALM, "headers are far too many")


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_tables_size_changes_at_most_twice_in_a_block(is_allowed: bool) -> None:
    says = b"\x20" * (2 if is_allowed else 3) + block()
    async with raw(frame(frames.HEADERS, frames.END_HEADERS, 1, says), data(1, enveloped(b"a"))) as (
        _,
        client,
    ):
        if is_allowed:
            assert await client.answered(1) == b"a"
        else:
            assert (await client.dismissed())[0] == frames.COMPRESSION_ERROR


MEANINGLESS = {
    "acknowledgements": frame(frames.SETTINGS, frames.ACK, 0, b""),
    "unknown frames": frame(0xBE, 0, 0, b""),
    "room of a byte": frames.window_update(0, 1),
}


@pytest.mark.parametrize("name", MEANINGLESS)
async def test_frames_that_mean_nothing_leave_others_their_turn(name: str) -> None:
    async with serving() as (_, server):
        client = await Client.to(server.address, call(1))
        await client.answered(1)
        [connection] = server.server._connections
        turns = 0
        connection.data_received(MEANINGLESS[name] * 5 * FRAMES_A_TURN + call(3))
        while not connection._transport.is_reading():
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 5
        assert await client.answered(3) == b"hello"
        client.say(call(5))
        assert await client.answered(5) == b"hello"
        await client.close()
