"""Quotas in a real redis-server: gateways share them, and a lost Redis stops nobody."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Gauge

from gateway.errors import QuotaExceeded
from gateway.keys.key import Key
from gateway.quotas.quotas import PREFIX, Quotas
from gateway.redis_node import RedisNode
from services import redis
from services.launch import Running, free_port

SLOW_REDIS = 30.0
"""Seconds: a busy machine is not a lost Redis."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    launch = redis.launch(run_dir=tmp_path_factory.mktemp("redis"), port=free_port())
    with Running(launch):
        yield f"redis://{launch.addresses['redis']}/0"


class Counted(RedisNode):
    """A link that counts its round trips."""

    def __init__(self, url: str, *, timeout_seconds: float = SLOW_REDIS) -> None:
        self.up = Gauge("up", "Whether Redis answers.", registry=None)
        super().__init__(url, timeout_seconds=timeout_seconds, retry_after_seconds=0.2, tell_up=self.up.set)
        self.round_trips = 0

    async def attempt(self, command: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.round_trips += 1
        return await super().attempt(command, *args, **options)


@asynccontextmanager
async def a_gateway(url: str, *, share_ratio: float = 1.0) -> AsyncIterator[tuple[Quotas, Counted]]:
    link = Counted(url)
    quotas = Quotas(link, lease_seconds=0.1, local_share_ratio=share_ratio)
    try:
        yield quotas, link
    finally:
        await quotas.aclose()


def a_key(name: str, *, per_second: float = 0.0, burst: int = 1, per_day: int = 0) -> Key:
    return Key(name, name, bytes(32), per_second=per_second, burst=burst, per_day=per_day)


async def passes(quotas: Quotas, key: Key) -> bool:
    try:
        await quotas.spend(key)
    except QuotaExceeded:
        return False
    return True


async def test_two_gateways_share_one_days_quota_to_the_request(url: str) -> None:
    key = a_key("day", per_day=100)
    async with a_gateway(url) as (one, _), a_gateway(url) as (two, _):
        passed = [await passes(quotas, key) for _ in range(100) for quotas in (one, two)]
    assert sum(passed) == 100  # its leases are of one request: none lies unspent in a gateway
    assert not any(passed[-50:])


async def test_of_a_large_quota_one_lease_a_gateway_may_lie_unspent_until_it_ends(
    url: str,
) -> None:
    key = a_key("large", per_day=5000)  # leases of 5
    async with a_gateway(url) as (one, _), a_gateway(url) as (two, _):
        assert await passes(two, key)
        passed = sum([await passes(one, key) for _ in range(5100)])
        assert 5000 - 1 - 5 <= passed <= 5000 - 1
    async with a_gateway(url) as (three, _):
        assert sum([await passes(three, key) for _ in range(10)]) == 5000 - 1 - passed


async def test_two_gateways_share_one_rate_and_what_is_over_waits(url: str) -> None:
    key = a_key("rate", per_second=50.0, burst=50)  # leases of 5
    started = time.monotonic()
    async with a_gateway(url) as (one, _), a_gateway(url) as (two, _):
        passed = 0
        while time.monotonic() - started < 2.0:
            passed += await passes(one, key) + await passes(two, key)
            await asyncio.sleep(0.001)
        elapsed = time.monotonic() - started
    assert passed <= 50 + 50 * elapsed
    assert passed >= 0.8 * (50 + 50 * elapsed) - 2 * 5


async def test_requests_within_the_rate_cost_no_round_trip_each(url: str) -> None:
    key = a_key("fast", per_second=1000.0, burst=1000)  # leases of 100
    async with a_gateway(url) as (quotas, link):
        assert await passes(quotas, key)
        link.round_trips = 0
        assert all([await passes(quotas, key) for _ in range(50)])
        assert link.round_trips == 0
        await asyncio.sleep(0.05)
        assert all([await passes(quotas, key) for _ in range(400)])
        assert link.round_trips <= 10


async def test_requests_that_come_at_once_pass_together(url: str) -> None:
    key = a_key("at_once", per_second=100.0, burst=40)
    async with a_gateway(url) as (quotas, _):
        assert sum(await asyncio.gather(*(passes(quotas, key) for _ in range(60)))) >= 40


async def test_a_refusal_says_when_and_costs_no_round_trip(url: str) -> None:
    key = a_key("refused", per_second=0.5, burst=1)
    async with a_gateway(url) as (quotas, link):
        assert await passes(quotas, key)
        with pytest.raises(QuotaExceeded) as refused:
            await quotas.spend(key)
        assert (refused.value.reason, 1.0 < refused.value.retry_after_seconds <= 2.0) == ("rate", True)
        link.round_trips = 0
        assert [await passes(quotas, key) for _ in range(20)] == [False] * 20
        assert link.round_trips == 0


async def test_without_redis_each_gateway_keeps_to_its_share_and_tells_it_afterwards(
    tmp_path: Path,
) -> None:
    launch = redis.launch(run_dir=tmp_path, port=free_port())
    address = f"redis://{launch.addresses['redis']}/0"
    key = a_key("lost", per_second=10.0, burst=10, per_day=1000)
    async with a_gateway(address, share_ratio=0.5) as (quotas, link):
        with Running(launch):
            assert await passes(quotas, key)
            assert link.up._value.get() == 1
            await asyncio.sleep(0.1)
        passed = sum([await passes(quotas, key) for _ in range(20)])
        assert 5 <= passed <= 5 + 1 + 1  # its half, a lease that it had, and what came back meanwhile
        assert link.up._value.get() == 0
        with Running(launch):
            await asyncio.sleep(1.2)
            assert await passes(quotas, key)
            stored = await link.redis.hget(PREFIX + key.id, "spent")
            assert link.up._value.get() == 1
            assert int(stored or 0) >= passed


async def test_a_key_without_limits_asks_nobody() -> None:
    async with a_gateway(f"redis://127.0.0.1:{free_port()}/0") as (quotas, link):
        assert await passes(quotas, a_key("free"))
        assert link.round_trips == 0


async def test_limits_that_change_hold_at_once(url: str) -> None:
    async with a_gateway(url) as (quotas, _):
        assert await passes(quotas, a_key("changed", per_day=1))
        assert not await passes(quotas, a_key("changed", per_day=1))
        assert await passes(quotas, a_key("changed", per_day=3))
