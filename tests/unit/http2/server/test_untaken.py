"""Replies that a client gives no room do not pile up."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.http2 import frames
from gateway.http2.incoming import IncomingCall
from gateway.http2.output import Output
from gateway.http2.patience import FREE
from gateway.http2.untaken import Untaken
from tests.fakes import until
from tests.unit.http2.server.server_rig import BIG, MANY, call, data, enveloped, opening, raw

NO_ROOM = frames.settings(((frames.INITIAL_WINDOW_SIZE, 0),))


async def test_no_call_begins_while_too_much_waits() -> None:
    async with raw(NO_ROOM, message_bytes=10_000) as (echo, client):
        for stream in (1, 3):
            client.say(call(stream, b"25000", (":path", BIG)))
            await client.round_trip()
        last = 2 * FREE - 501
        for stream in range(5, last, 2):  # more than a connection has at a time
            client.say(call(stream), frames.reset(stream, frames.CANCEL))
        client.say(call(last), frames.window_update(last, 100))
        await client.round_trip()
        assert not echo.contexts
        client.say(frames.window_update(1, 30_000))
        assert len(await client.answered(1)) == 25_000
        assert await client.answered(last) == b"hello"
        assert len(echo.contexts) == 1


@pytest.mark.parametrize("path", [BIG, MANY])
async def test_a_reply_that_is_given_no_room_is_given_up(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http2.untaken.UNTAKEN_SECONDS", 0.1)
    async with raw(NO_ROOM) as (echo, client):
        echo.is_open.set()
        client.say(opening(1, (":path", path)), data(1, enveloped(b"100")))
        assert await client.refused(1) == frames.CANCEL
        client.say(call(3), frames.window_update(3, 100))
        assert await client.answered(3) == b"hello"


async def test_a_connection_that_is_given_no_room_loses_the_replies_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.http2.untaken.UNTAKEN_SECONDS", 0.1)
    much = frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**30),))
    async with raw(much, call(1, b"100000", (":path", BIG))) as (_, client):
        assert await client.refused(1) == frames.CANCEL
        assert len(client.body(1)) == frames.WINDOW_BYTES


async def test_what_is_given_room_in_between_goes_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http2.untaken.UNTAKEN_SECONDS", 0.0)
    calls = {stream: SimpleNamespace(stream=stream, window=0, unsent=[b"ab", b"c"]) for stream in (1, 3, 5)}
    output: Any = SimpleNamespace(
        sending=SimpleNamespace(blocked=calls, window=9), attempt=lambda act, *args: act(*args)
    )
    gone: list[int] = []

    def give_up(call: IncomingCall) -> None:
        gone.append(call.stream)
        del calls[call.stream]

    untaken = Untaken(cast("Output", output))
    assert untaken.waiting_bytes == 9
    untaken.watch(give_up)
    calls[3].window = 7
    untaken.given(3)
    await until(lambda: gone)
    assert gone == [1, 5]
    output.sending.window = 0
    await until(lambda: gone == [1, 5, 3])


@pytest.mark.parametrize("why", ["cancelled", "untaken"])
async def test_calls_that_wait_to_begin_do_once_others_are_gone(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http2.untaken.UNTAKEN_SECONDS", 0.3 if why == "untaken" else 60.0)
    async with raw(NO_ROOM, message_bytes=10_000) as (echo, client):
        client.say(call(1, b"50000", (":path", BIG)), frames.settings(()))
        await client.round_trip()
        client.say(call(3), frames.window_update(3, 100))
        await client.round_trip()
        assert not echo.contexts
        if why == "cancelled":
            client.say(frames.reset(1, frames.CANCEL))
        assert await client.answered(3) == b"hello"
