"""Cached: what is known is given without asking anyone, and only what is true is kept."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import DeadlineExceeded, Unavailable
from gateway.inference import InferRequest, InferResponse
from gateway.metrics import Metrics
from gateway.stages.cached import Cached
from tests.fakes import SUM, FakeClock, FakeInfer, a_contract, a_request

REQUEST = a_request(key=b"k", version="1", variant="fp32")
TTL_SECONDS = a_contract().cache.ttl_seconds
KNOWN = InferResponse("adder", "1", (SUM,), variant="fp32", backend="triton", endpoint="t1")


class Kept:
    """A Store that keeps everything, and for how long it was told to."""

    def __init__(self) -> None:
        self.answers: dict[bytes, InferResponse] = {}
        self.ttl_seconds: float | None = None
        self.voids = 0
        self.answers_at_once = False

    async def get(self, _model: str, key: bytes, /) -> InferResponse | None:
        return self.answers.get(key)

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        self.answers[key] = response
        self.ttl_seconds = ttl_seconds


class Hanging(Kept):
    """A Store that never says what it has."""

    async def get(self, _model: str, _key: bytes, /) -> InferResponse | None:
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")


class Rig:
    """A Cached tier over a fake."""

    def __init__(
        self,
        backend: FakeInfer | Cached | None = None,
        *,
        tier: str = "memory",
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.backend = backend or FakeInfer()
        self.store = Kept()
        self.registry = CollectorRegistry()
        self.infer = Cached(
            self.backend,
            store=self.store,
            tier=tier,
            contracts={"adder": a_contract()},
            metrics=Metrics(self.registry),
            wall_clock=clock,
            clock=clock,
            rng=rng,
        )
        self.tier = tier

    @property
    def saved_seconds(self) -> float:
        """What hits have saved."""
        labels = {"model": "adder", "tier": self.tier}
        return self.registry.get_sample_value("gateway_cache_saved_seconds_total", labels) or 0.0

    def lookups(self, result: str) -> float | None:
        labels = {"model": "adder", "tier": self.tier, "result": result}
        return self.registry.get_sample_value("gateway_cache_lookups_total", labels)


@pytest.mark.parametrize("tier", ["memory", "redis"])
async def test_a_known_answer_is_given_without_asking_and_names_its_tier(tier: str) -> None:
    backend = FakeInfer()
    rig = Rig(backend, tier=tier)
    rig.store.answers[b"k"] = KNOWN
    assert await rig.infer(REQUEST) == replace(KNOWN, cache=tier)
    assert backend.requests == []
    assert (rig.lookups("hit"), rig.lookups("miss")) == (1, 0)


async def test_an_unknown_answer_is_asked_for_and_kept_as_long_as_the_contract_says() -> None:
    rig = Rig()
    response = await rig.infer(REQUEST)
    assert response.cache == "miss"
    assert rig.store.answers[b"k"].outputs == (SUM,)
    assert rig.store.ttl_seconds == 60
    assert (rig.lookups("hit"), rig.lookups("miss")) == (0, 1)
    assert (await rig.infer(REQUEST)).cache == "memory"


async def test_another_key_is_another_answer() -> None:
    rig = Rig()
    rig.store.answers[b"other"] = KNOWN
    assert (await rig.infer(REQUEST)).cache == "miss"


async def test_a_request_without_a_key_is_neither_looked_up_nor_kept() -> None:
    rig = Rig()
    rig.store.answers[b""] = KNOWN
    response = await rig.infer(replace(REQUEST, key=b""))
    assert response.cache == "off"
    assert rig.store.answers == {b"": KNOWN}
    assert rig.lookups("miss") == 0


@pytest.mark.parametrize("answered", [("2", "fp32"), ("1", "int8")])
async def test_an_answer_of_another_version_or_variant_is_given_but_not_kept(
    answered: tuple[str, str],
) -> None:
    version, variant = answered
    rig = Rig(FakeInfer(replace(KNOWN, version=version, variant=variant)))
    response = await rig.infer(REQUEST)
    assert (response.version, response.variant) == answered
    assert rig.store.answers == {}


async def test_a_failure_is_not_kept() -> None:
    rig = Rig(FakeInfer(Unavailable("all are down")))
    with pytest.raises(Unavailable):
        await rig.infer(REQUEST)
    assert rig.store.answers == {}


async def test_an_answer_from_the_tier_below_is_kept_here_and_keeps_its_name() -> None:
    below = Rig(tier="redis")
    below.store.answers[b"k"] = KNOWN
    above = Rig(below.infer)
    assert (await above.infer(REQUEST)).cache == "redis"
    assert (await above.infer(REQUEST)).cache == "memory"


async def test_a_miss_of_both_tiers_fills_both_and_is_told_as_one_miss() -> None:
    below = Rig(tier="redis")
    above = Rig(below.infer)
    assert (await above.infer(REQUEST)).cache == "miss"
    assert b"k" in above.store.answers
    assert b"k" in below.store.answers


async def test_an_answer_from_a_tier_behind_keeps_the_end_that_it_has_there() -> None:
    clock = FakeClock()
    redis = Rig(tier="redis", clock=clock)
    memory = Rig(redis.infer, tier="memory", clock=clock)
    await memory.infer(REQUEST)
    assert (redis.store.ttl_seconds, memory.store.ttl_seconds) == (TTL_SECONDS, TTL_SECONDS)
    memory.store.answers.clear()
    clock.now += 40
    assert (await memory.infer(REQUEST)).cache == "redis"
    assert memory.store.ttl_seconds == TTL_SECONDS - 40


async def test_an_answer_whose_time_is_over_is_not_kept() -> None:
    clock = FakeClock()
    rig = Rig(FakeInfer(replace(KNOWN, expires_at=clock.now)), clock=clock)
    await rig.infer(REQUEST)
    assert rig.store.answers == {}


async def test_an_answer_that_was_asked_for_before_a_void_is_given_and_not_kept() -> None:
    backend = FakeInfer()
    backend.is_open.clear()
    rig = Rig(backend)
    asked = asyncio.create_task(rig.infer(REQUEST))
    await asyncio.sleep(0)
    rig.store.voids += 1
    backend.is_open.set()
    assert (await asked).cache == "miss"
    assert rig.store.answers == {}


@pytest.mark.parametrize(
    ("drawn", "ttl_seconds"), [(0.0, TTL_SECONDS), (0.5, 0.95 * TTL_SECONDS), (1.0, 0.9 * TTL_SECONDS)]
)
async def test_an_answers_time_is_cut_by_a_random_part_and_never_longer_than_the_contract_says(
    drawn: float, ttl_seconds: float
) -> None:
    rig = Rig(clock=FakeClock(), rng=lambda: drawn)
    await rig.infer(REQUEST)
    assert rig.store.ttl_seconds == pytest.approx(ttl_seconds)


class Slow(FakeInfer):
    """A backend that takes as long as it is told."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        self.clock.now += self.seconds
        return await super().__call__(request)


async def test_every_hit_saves_what_its_answer_took_when_it_was_computed_in_every_tier_alike() -> None:
    clock = FakeClock()
    redis = Rig(Slow(clock, 0.25), tier="redis", clock=clock)
    memory = Rig(redis.infer, clock=clock)
    for _ in range(3):
        await memory.infer(REQUEST)
    assert memory.saved_seconds == pytest.approx(0.5)
    memory.store.answers.clear()
    await memory.infer(REQUEST)
    await memory.infer(REQUEST)
    assert (redis.saved_seconds, memory.saved_seconds) == pytest.approx((0.25, 0.75))


async def test_a_tier_that_hangs_keeps_nobody_beyond_its_deadline() -> None:
    rig = Rig(backend := FakeInfer(), clock=time.monotonic)
    rig.infer._store = Hanging()
    with pytest.raises(DeadlineExceeded, match="model 'adder': no answer before the deadline"):
        await rig.infer(a_request(key=b"k", deadline=time.monotonic() + 0.05))
    assert backend.requests == []
