"""How a server's connection ends: after its last call, for its age, or because nobody is there."""

import asyncio
import time

import pytest

from gateway.http2 import frames
from gateway.http2.frames import frame
from tests.fakes import until
from tests.unit.http2.server.server_rig import MANY, SOON, WAIT, Client, call, data, opening, raw, serving

LAST = 2**31 - 1


def leaves(client: Client) -> list[int]:
    """The last stream of each GOAWAY."""
    return [int.from_bytes(one[3][:4], "big") for one in client.kinds(frames.GOAWAY)]


def pong(client: Client) -> bytes:
    return frame(frames.PING, frames.ACK, 0, client.kinds(frames.PING)[-1][3])


async def test_who_is_told_to_leave_may_begin_calls_until_it_has_heard() -> None:
    async with serving() as (echo, server):
        client = await Client.to(server.address, call(1, b"one", (":path", WAIT)))
        await until(lambda: echo.contexts)
        stopping = asyncio.create_task(server.stop(SOON))
        await client.until(lambda: leaves(client) == [LAST])
        client.say(call(3, b"three", (":path", WAIT)), pong(client), call(5, b"late"))
        await client.until(lambda: leaves(client) == [LAST, 3])
        echo.is_open.set()
        assert [await client.answered(stream) for stream in (1, 3)] == [b"one", b"three"]
        await client.closed()
        await stopping
        assert not client.is_ended(5)  # it is above what was promised, and may be sent elsewhere
        await client.close()


async def test_an_idle_connection_ends_as_soon_as_its_client_has_heard() -> None:
    async with serving() as (_, server):
        client = await Client.to(server.address)
        await client.until(lambda: client.kinds(frames.SETTINGS))
        stopping = asyncio.create_task(server.stop(SOON))
        await client.until(lambda: client.kinds(frames.PING))
        client.say(pong(client))
        await client.closed()
        await stopping
        await client.close()


async def test_what_does_not_end_in_time_is_ended() -> None:
    async with serving() as (echo, server):
        client = await Client.to(server.address, call(1, b"", (":path", WAIT)))
        await until(lambda: echo.contexts)
        await server.stop(0.2)
        await client.closed()
        assert echo.cancelled == 1
        await client.close()


async def test_a_stopped_server_takes_no_connection() -> None:
    async with serving() as (_, server):
        await server.stop()
        with pytest.raises(OSError, match=r"refused|reset|Connect"):
            await Client.to(server.address)


async def test_a_connection_ends_of_age_after_its_last_call() -> None:
    async with raw(age_seconds=0.2, age_grace_seconds=SOON) as (echo, client):
        client.say(call(1, b"old", (":path", WAIT)))
        await client.until(lambda: client.kinds(frames.PING))
        client.say(pong(client))
        await client.until(lambda: leaves(client) == [LAST, 1])
        echo.is_open.set()
        assert await client.answered(1) == b"old"
        await client.closed()


async def test_a_call_without_end_does_not_outlive_the_grace() -> None:
    async with raw(opening(1, (":path", MANY)), age_seconds=0.1, age_grace_seconds=0.2) as (echo, client):
        await client.closed()
        await until(lambda: echo.cancelled)


@pytest.mark.parametrize("says", [b"", b"PRI * HTTP/2.0\r\n\r\n"])
async def test_who_says_nothing_is_not_waited_for(says: bytes) -> None:
    async with raw(says, greets=False, opening_seconds=0.2) as (_, client):
        await client.closed()


async def test_who_answers_no_ping_is_gone() -> None:
    began = time.monotonic()
    async with raw(ping_seconds=0.2, pong_seconds=0.2, opening_seconds=0.05) as (_, client):
        await client.closed()
        assert client.kinds(frames.PING)
        assert time.monotonic() - began > 0.35


async def test_who_answers_pings_stays() -> None:
    async with raw(ping_seconds=0.05, pong_seconds=0.2, opening_seconds=0.05) as (_, client):
        for count in range(1, 4):
            await client.until(lambda count=count: len(client.kinds(frames.PING)) >= count)  # type: ignore[misc]
            client.say(pong(client))
        client.say(call(1))
        assert await client.answered(1) == b"hello"


async def test_a_client_that_leaves_gets_its_replies() -> None:
    async with raw(call(1, b"bye", (":path", WAIT))) as (echo, client):
        await until(lambda: echo.contexts)
        client.say(frames.goaway(0, 0))
        await client.round_trip()
        echo.is_open.set()
        assert await client.answered(1) == b"bye"
        await client.closed()


async def test_trailers_of_a_request_end_it() -> None:
    async with raw(opening(1), data(1, b"\0\0\0\0\2hi", 0)) as (_, client):
        client.say(frame(frames.HEADERS, 5, 1, b"\0\1a\1b"))
        assert await client.answered(1) == b"hi"
