"""Alarms: many points in time on one timer, and nobody is woken too early, twice or in vain."""

import asyncio
import math

from gateway.alarms import Alarms

SOON = 0.002


class Bell:
    """Alarms, and who was woken, when."""

    def __init__(self) -> None:
        self.rang: list[str] = []
        self.times: list[float] = []
        self.alarms: Alarms[str] = Alarms(self.ring)

    def ring(self, name: str) -> None:
        self.rang.append(name)
        self.times.append(asyncio.get_running_loop().time())

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.rang) < count:  # noqa: ASYNC110 - what is waited for is what is tested
                await asyncio.sleep(0.001)


async def test_each_is_woken_once_in_the_order_of_time_and_not_too_early() -> None:
    bell = Bell()
    began = asyncio.get_running_loop().time()
    delays = {"late": 3 * SOON, "early": SOON, "middle": 2 * SOON}
    for name, seconds in delays.items():
        bell.alarms.set(name, seconds)
    await bell.until(3)
    assert bell.rang == ["early", "middle", "late"]
    assert all(at - began >= delays[name] - 2e-4 for name, at in zip(bell.rang, bell.times, strict=True))
    assert not len(bell.alarms)


async def test_who_has_stopped_is_not_woken_and_the_next_one_is() -> None:
    bell = Bell()
    bell.alarms.set("gone", SOON)
    bell.alarms.set("here", 2 * SOON)
    bell.alarms.stop("gone")
    bell.alarms.stop("gone")
    await bell.until(1)
    assert bell.rang == ["here"]


async def test_who_never_wants_to_be_woken_costs_no_timer() -> None:
    bell = Bell()
    bell.alarms.set("never", math.inf)
    assert (len(bell.alarms), bell.alarms._timer) == (0, None)


async def test_one_that_is_woken_may_set_another_and_stop_one_that_is_due_too() -> None:
    bell = Bell()

    def ring(name: str) -> None:
        bell.ring(name)
        if name == "first":
            alarms.stop("second")
            alarms.set("third", SOON)

    alarms = Alarms(ring)
    alarms.set("first", SOON)
    alarms.set("second", SOON)
    alarms.set("fourth", 10 * SOON)
    await bell.until(3)
    assert bell.rang == ["first", "third", "fourth"]


async def test_many_share_one_timer_which_is_gone_when_they_are() -> None:
    bell = Bell()
    for number in range(100):
        bell.alarms.set(str(number), SOON)
    timer = bell.alarms._timer
    bell.alarms.set("later", 2 * SOON)
    assert bell.alarms._timer is timer
    await bell.until(101)
    assert bell.alarms._timer is None
