"""Recall: only what the memory tier still has is given for bytes that were answered before."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from gateway.caching.memory import MemoryStore
from gateway.caching.recall import OVERHEAD_BYTES, Recall
from gateway.inference import InferResponse, Tensor
from gateway.metrics import Metrics
from tests.fakes import FakeClock

TENSOR = Tensor("t", "UINT8", (100,), bytes(100))
HIT = InferResponse("m", "1", (TENSOR,), cache="memory", computed_seconds=0.5, key=b"k")
HIT_BYTES = OVERHEAD_BYTES + 100 + 50


class Rig:
    """A Recall over a memory tier that has HIT."""

    def __init__(self, limit_bytes: int = 100 * HIT_BYTES) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(2**20, clock=self.clock)
        metrics = self.metrics = Metrics(CollectorRegistry())
        hits = metrics.lookups.labels("m", "memory", "hit")
        saved = metrics.cache_saved.labels("m", "memory")
        self.recall: Recall[bytes] = Recall(self.store, limit_bytes, {"m": hits}, {"m": saved})

    async def put(self, response: InferResponse = HIT) -> None:
        await self.store.put(response.key, response, 60)

    def keep(self, wire: str = "wire", response: InferResponse = HIT) -> None:
        self.recall.keep(wire, response, b"reply", 50)

    async def found(self, wire: str = "wire") -> bytes | None:
        known = await self.recall.find(wire)
        return None if known is None else known.reply


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.put()
    made.keep()
    return made


async def test_bytes_that_were_answered_before_are_answered_again(rig: Rig) -> None:
    assert (await rig.found(), await rig.found("other")) == (b"reply", None)


async def test_what_is_found_counts_as_a_hit_of_the_memory_tier_and_what_is_not_does_not(rig: Rig) -> None:
    for wire in ("wire", "wire", "other"):
        await rig.found(wire)
    value, labels = rig.metrics.registry.get_sample_value, {"model": "m", "tier": "memory"}
    assert value("gateway_cache_lookups_total", {**labels, "result": "hit"}) == 2
    assert value("gateway_cache_saved_seconds_total", labels) == 2 * HIT.computed_seconds


async def test_nothing_is_recalled_after_its_end_in_the_memory_tier(rig: Rig) -> None:
    rig.clock.now += 60
    assert await rig.found() is None
    assert rig.recall.size_bytes == 0


async def test_an_answer_that_was_computed_anew_is_encoded_anew(rig: Rig) -> None:
    await rig.put(replace(HIT, outputs=(Tensor("t", "UINT8", (100,), bytes(100)),)))
    assert await rig.found() is None


async def test_the_same_answer_put_again_is_still_recalled(rig: Rig) -> None:
    await rig.put(replace(HIT, expires_at=9.0))
    assert await rig.found() == b"reply"


async def test_a_void_forgets_everything_at_once(rig: Rig) -> None:
    await rig.store.void("m")
    assert (rig.recall.size_bytes, await rig.found()) == (0, None)


@pytest.mark.parametrize(
    "response",
    [replace(HIT, cache="miss"), replace(HIT, cache="redis"), replace(HIT, id="7"), replace(HIT, model="n")],
    ids=["a miss", "of another tier", "with an id", "of a model that is not recalled"],
)
def test_only_hits_of_the_memory_tier_that_come_again_are_taken(response: InferResponse) -> None:
    recall = Rig().recall
    assert (recall.takes(HIT), recall.takes(response)) == (True, False)


async def test_what_was_not_asked_for_longest_makes_room() -> None:
    rig = Rig(2 * HIT_BYTES)
    await rig.put()
    for wire in ("a", "b"):
        rig.keep(wire)
    await rig.found("a")
    rig.keep("c")
    assert [await rig.found(wire) for wire in ("a", "b", "c")] == [b"reply", None, b"reply"]
    assert rig.recall.size_bytes == 2 * HIT_BYTES


async def test_a_reply_that_does_not_fit_at_all_is_not_held() -> None:
    rig = Rig(HIT_BYTES - 1)
    await rig.put()
    rig.keep()
    assert (rig.recall.size_bytes, await rig.found()) == (0, None)


async def test_keeping_the_same_bytes_again_counts_them_once(rig: Rig) -> None:
    rig.keep()
    assert rig.recall.size_bytes == HIT_BYTES
