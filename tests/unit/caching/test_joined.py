"""Joined: what is asked for in one tick goes together, bounded, and nobody waits for ever."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.caching.joined import Joined


class Sent:
    """Where trips go: each item comes back doubled, once the gate is open."""

    def __init__(self, **bounds: int) -> None:
        self.trips: list[list[int]] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.joined = Joined(self.send, **{"items_max": 4, "trips_max": 2, "waiting_max": 100, **bounds})

    async def send(self, items: Sequence[int]) -> list[int]:
        self.trips.append(list(items))
        await self.is_open.wait()
        if 13 in items:
            raise RuntimeError("thirteen")
        return [2 * item for item in items]

    async def ask(self, item: int) -> int | None:
        reply = self.joined.ask(item)
        return None if reply is None else await reply


async def test_what_is_asked_for_in_one_tick_goes_together() -> None:
    sent = Sent()
    assert await asyncio.gather(*map(sent.ask, range(3))) == [0, 2, 4]
    assert await sent.ask(3) == 6
    assert sent.trips == [[0, 1, 2], [3]]


async def test_while_all_trips_are_under_way_the_next_one_gathers() -> None:
    sent = Sent()
    sent.is_open.clear()
    asked = []
    for item in range(7):
        asked.append(asyncio.create_task(sent.ask(item)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    sent.is_open.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10, 12]
    assert sent.trips == [[0], [1], [2, 3, 4, 5], [6]]


async def test_what_is_too_much_for_one_trip_goes_in_several_at_once() -> None:
    sent = Sent()
    sent.is_open.clear()
    asked = [asyncio.create_task(sent.ask(item)) for item in range(10)]
    for _ in range(4):
        await asyncio.sleep(0)
    assert sent.trips == [[0, 1, 2, 3], [4, 5, 6, 7]]
    sent.is_open.set()
    assert await asyncio.gather(*asked) == [2 * item for item in range(10)]


async def test_what_finds_too_many_waiting_is_not_asked_for() -> None:
    sent = Sent(waiting_max=2)
    assert await asyncio.gather(*map(sent.ask, range(3))) == [0, 2, None]
    assert await sent.ask(3) == 6


async def test_who_leaves_takes_nothing_from_the_others_and_is_not_asked_for() -> None:
    sent = Sent()
    replies = [sent.joined.ask(item) for item in range(3)]
    assert replies[1] is not None
    replies[1].cancel()
    assert [await reply for reply in replies if reply and not reply.cancelled()] == [0, 4]
    assert sent.trips == [[0, 2]]


async def test_who_leaves_under_way_takes_nothing_from_the_others() -> None:
    sent = Sent()
    sent.is_open.clear()
    one, two = (asyncio.create_task(sent.ask(item)) for item in range(2))
    for _ in range(3):
        await asyncio.sleep(0)
    one.cancel()
    sent.is_open.set()
    assert await two == 2
    assert one.cancelled()


async def test_a_trip_that_fails_fails_who_was_on_it_and_the_next_one_goes() -> None:
    sent = Sent()
    replies = await asyncio.gather(sent.ask(13), sent.ask(1), return_exceptions=True)
    assert [str(reply) for reply in replies] == ["thirteen"] * 2
    assert await sent.ask(1) == 2
    with pytest.raises(RuntimeError):
        await sent.ask(13)
