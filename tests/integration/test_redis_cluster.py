"""The Redis tier, keys and quotas against a real cluster of three masters: right answers, whoever is down."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from redis.crc import key_slot

from gateway.caching.redis import PREFIX, RedisStore
from gateway.errors import QuotaExceeded
from gateway.inference import InferResponse, Tensor
from gateway.keys.__main__ import main as keys_command
from gateway.keys.key import Key, split
from gateway.keys.key_store import KeyStore
from gateway.metrics import Metrics
from gateway.quotas.quotas import Quotas
from gateway.redis_cluster import RedisCluster
from tests.certificates import Authority
from tests.fakes import FakeClock
from tests.redis_cluster import MASTERS, SLOTS, StartedCluster, running_redis_cluster
from tests.serving import running_redis

KEYS = [number.to_bytes(2, "big") for number in range(60)]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedCluster]:
    with running_redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: StartedCluster) -> StartedCluster:
    for client in started.clients:
        client.flushall()
    return started


class Tier:
    """A store over a cluster, and what it says of itself."""

    def __init__(self, url: str, **options: Any) -> None:
        self.clock = FakeClock()
        self.up = Gauge("up", "Share of the masters that answer.", registry=None)
        always: dict[str, Any] = {"timeout_seconds": 30.0, "retry_after_seconds": 1.0, "clock": self.clock}
        self.link = RedisCluster(url, tell_up=self.up.set, **{**always, **options})
        self.store = RedisStore(self.link, Metrics(CollectorRegistry()))

    async def put(self, *keys: bytes, model: str = "adder") -> None:
        """Put and wait until it is written, as no request does."""
        for key in keys:
            await self.store.put(key, an_answer(key, model), 60)
        await asyncio.gather(*self.store._writes)

    async def found(self, *keys: bytes) -> list[InferResponse | None]:
        """What is there for each key, asked for in one tick."""
        return await asyncio.gather(*(self.store.get("adder", key) for key in keys))

    @property
    def up_ratio(self) -> float:
        return float(self.up._value.get())


@asynccontextmanager
async def a_tier(url: str, **options: Any) -> AsyncIterator[Tier]:
    tier = Tier(url, **options)
    try:
        yield tier
    finally:
        await tier.store.aclose()


def an_answer(key: bytes, model: str = "adder") -> InferResponse:
    return InferResponse(model, "1", (Tensor("sum", "UINT8", (len(key),), key),), variant="fp32")


def answers(*keys: bytes) -> list[InferResponse]:
    return [an_answer(key) for key in keys]


def owner(key: bytes) -> int:
    """The number of the master that has the answer of a key."""
    return key_slot(PREFIX + b"adder:" + key) * MASTERS // SLOTS


async def test_answers_lie_on_every_master_and_another_gateway_finds_them(cluster: StartedCluster) -> None:
    async with a_tier(cluster.url) as one, a_tier(cluster.url) as other:
        await one.put(*KEYS)
        assert [client.dbsize() > 0 for client in cluster.clients] == [True] * MASTERS
        assert await other.found(*KEYS, b"unknown") == [*answers(*KEYS), None]
        assert await one.link.ping()
        assert one.up_ratio == 1.0


async def test_what_is_asked_for_in_one_tick_is_one_round_trip_to_each_master(
    cluster: StartedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_tier(cluster.url) as tier:
        await tier.put(*KEYS)
        trips: list[None] = []
        for node in tier.link.nodes:
            monkeypatch.setattr(node, "attempt", _counted(node.attempt, trips))
        assert await tier.found(*KEYS) == answers(*KEYS)
    assert len(trips) == MASTERS


def _counted(attempt: Any, trips: list[None]) -> Any:
    async def counted(*args: Any, **options: Any) -> Any:
        trips.append(None)
        return await attempt(*args, **options)

    return counted


async def test_voiding_a_model_drops_its_answers_on_every_master_and_nothing_else(
    cluster: StartedCluster,
) -> None:
    async with a_tier(cluster.url) as tier:
        await tier.put(*KEYS)
        await tier.put(b"k", model="add")
        assert await tier.store.void("adder") == len(KEYS)
        assert await tier.found(*KEYS) == [None] * len(KEYS)
        assert await tier.store.get("add", b"k") == an_answer(b"k", "add")


async def test_a_slot_that_moves_is_a_miss_until_its_new_owner_is_known(cluster: StartedCluster) -> None:
    key = next(key for key in KEYS if owner(key) == 0)
    stored = PREFIX + b"adder:" + key
    old, new = cluster.clients[0], cluster.clients[1]
    async with a_tier(cluster.url) as tier:
        await tier.put(key)
        _move(stored, old, new, cluster.ports[1])
        assert await tier.found(key) == [None]
        assert await tier.link.ping()
        assert await tier.found(key) == answers(key)
        _move(stored, new, old, cluster.ports[0])


def _move(key: bytes, old: Any, new: Any, port: int) -> None:
    slot = key_slot(key)
    names = [client.execute_command("CLUSTER MYID").decode() for client in (old, new)]
    new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
    old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
    old.execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5000)
    for client in (new, old):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])


async def test_a_master_that_is_killed_takes_its_own_answers_along_and_no_others(
    cluster: StartedCluster,
) -> None:
    async with a_tier(cluster.url) as tier:
        await tier.put(*KEYS)
        cluster.masters[0].kill()  # the one that the URL leads to
        try:
            kept = [an_answer(key) if owner(key) else None for key in KEYS]
            assert await tier.found(*KEYS) == kept
            assert not await tier.link.ping()
            assert tier.up_ratio == pytest.approx(2 / 3)
            assert not tier.link.is_down
            assert await tier.store.void("adder") is None
            assert await tier.found(*KEYS) == kept
        finally:
            cluster.start_again(0)
        tier.clock.now += 1.0
        assert await tier.link.ping()
        assert tier.up_ratio == 1.0
        await tier.put(*KEYS)
        assert await tier.found(*KEYS) == answers(*KEYS)


async def test_a_cluster_that_is_gone_is_no_answer_and_the_metric_says_so() -> None:
    async with a_tier("redis://127.0.0.1:1/0") as tier:
        await tier.put(b"k")
        assert await tier.found(b"k") == [None]
        assert not await tier.link.ping()
        assert (tier.link.is_down, tier.up_ratio) == (True, 0.0)
        assert await tier.store.void("adder") is None


async def test_a_redis_that_is_no_cluster_is_no_answer_and_the_metric_says_so(tmp_path: Path) -> None:
    with running_redis(tmp_path) as (_, port):
        async with a_tier(f"redis://127.0.0.1:{port}/0") as tier:
            await tier.put(b"k")
            assert await tier.found(b"k") == [None]
            assert not await tier.link.ping()
            assert tier.up_ratio == 0.0
            assert await tier.store.void("adder") is None


async def test_keys_that_were_made_in_a_cluster_open_the_gateway(
    cluster: StartedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--redis", cluster.url, "--cluster")
    made = []
    for name in ("ann", "bob", "cyd"):
        assert keys_command(["new", name, *where]) == 0
        made.append(capsys.readouterr().out.strip())
    assert keys_command(["list", *where]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["ann", "bob", "cyd"]
    tier = Tier(cluster.url)
    store = KeyStore(tier.link, fresh_seconds=30.0)
    found = [await store.find(split(key)[0]) for key in made]
    assert [key.name for key in found if key] == ["ann", "bob", "cyd"]
    assert await store.find("0" * 12) is None
    await store.aclose()


async def test_gateways_share_a_days_quota_in_a_cluster_to_the_request(cluster: StartedCluster) -> None:
    gateways = [Quotas(Tier(cluster.url).link) for _ in range(2)]
    for name in ("ann", "bob", "cyd"):
        key = Key(name, name, bytes(32), per_day=10)
        passed = [await _passes(quotas, key) for _ in range(10) for quotas in gateways]
        assert sum(passed) == 10
    for quotas in gateways:
        await quotas.aclose()


async def _passes(quotas: Quotas, key: Key) -> bool:
    try:
        await quotas.spend(key)
    except QuotaExceeded:
        return False
    return True


async def test_a_cluster_over_tls_is_trusted_by_its_ca_only(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with running_redis_cluster(tmp_path, tls=authority.issue("redis")) as secured:
        async with a_tier(secured.url, ca=str(authority.ca)) as tier:
            await tier.put(*KEYS)
            assert await tier.found(*KEYS) == answers(*KEYS)
            assert [client.dbsize() > 0 for client in secured.clients] == [True] * MASTERS
        async with a_tier(secured.url, ca=str(Authority(tmp_path / "other").ca)) as stranger:
            assert not await stranger.link.ping()
            assert await stranger.found(KEYS[0]) == [None]
