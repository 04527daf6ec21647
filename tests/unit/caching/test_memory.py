"""The memory tier: bounded in bytes, what was asked for once out first, nothing after its time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.caching.memory import ENTRY_OVERHEAD_BYTES, MemoryStore
from gateway.inference import InferResponse, Tensor
from tests.fakes import FakeClock

SMALL = InferResponse("m", "1", (Tensor("t", "UINT8", (100,), bytes(100)),))
SMALL_BYTES = 100 + ENTRY_OVERHEAD_BYTES


def of_bytes(size: int) -> InferResponse:
    return replace(SMALL, outputs=(Tensor("t", "UINT8", (size,), bytes(size)),))


async def kept(store: MemoryStore, *keys: bytes) -> list[bool]:
    return [await store.get("m", key) is not None for key in keys]


async def test_what_was_put_is_there_and_nothing_else() -> None:
    store = MemoryStore(10 * SMALL_BYTES)
    await store.put(b"k", SMALL, 60)
    assert await store.get("m", b"k") is SMALL
    assert await store.get("m", b"other") is None


async def test_an_answer_is_gone_at_the_end_of_its_time() -> None:
    clock = FakeClock()
    store = MemoryStore(10 * SMALL_BYTES, clock=clock)
    await store.put(b"k", SMALL, 60)
    clock.now += 59.9
    assert await store.get("m", b"k") is SMALL
    clock.now += 0.1
    assert await store.get("m", b"k") is None
    assert store.size_bytes == 0


async def test_reading_an_answer_does_not_lengthen_its_time() -> None:
    clock = FakeClock()
    store = MemoryStore(10 * SMALL_BYTES, clock=clock)
    await store.put(b"k", SMALL, 60)
    clock.now += 40
    await store.get("m", b"k")
    clock.now += 40
    assert await store.get("m", b"k") is None


async def test_what_was_asked_for_again_outlives_what_came_once() -> None:
    store = MemoryStore(2 * SMALL_BYTES)
    await store.put(b"a", SMALL, 60)
    await store.put(b"b", SMALL, 60)
    await store.get("m", b"a")
    await store.put(b"c", SMALL, 60)
    assert await kept(store, b"a", b"b", b"c") == [True, False, True]


async def test_a_scan_of_inputs_that_come_once_costs_no_answer_in_use_its_place() -> None:
    store = MemoryStore(20 * SMALL_BYTES)
    in_use = [b"used %d" % number for number in range(15)]
    for key in in_use:
        await store.put(key, SMALL, 60)
        await store.get("m", key)
    for number in range(1000):
        await store.put(b"once %d" % number, SMALL, 60)
    assert await kept(store, *in_use) == [True] * 15


async def test_what_is_asked_for_no_more_makes_room_in_the_end() -> None:
    store = MemoryStore(10 * SMALL_BYTES)
    old, new = [b"old %d" % number for number in range(8)], [b"new %d" % number for number in range(10)]
    for key in old + new * 10:
        if await store.get("m", key) is None:
            await store.put(key, SMALL, 60)
        await store.get("m", key)
    assert await kept(store, *old) == [False] * 8


async def test_what_was_let_go_and_comes_back_is_no_longer_among_what_came_once() -> None:
    store = MemoryStore(10 * SMALL_BYTES)
    for number in range(11):
        await store.put(b"%d" % number, SMALL, 60)
    await store.put(b"0", SMALL, 60)
    for number in range(100):
        await store.put(b"once %d" % number, SMALL, 60)
    assert await kept(store, b"0", b"1") == [True, False]


async def test_what_is_over_is_let_go_however_often_it_was_asked_for() -> None:
    clock = FakeClock()
    store = MemoryStore(2 * SMALL_BYTES, clock=clock)
    await store.put(b"a", SMALL, 10)
    await store.put(b"b", SMALL, 60)
    for key in (b"a", b"b"):
        await store.get("m", key)
    clock.now += 10
    await store.put(b"c", SMALL, 60)
    assert await kept(store, b"a", b"b", b"c") == [False, True, True]


async def test_no_more_keys_are_remembered_than_answers_are_kept() -> None:
    store = MemoryStore(10 * SMALL_BYTES)
    for number in range(1000):
        await store.put(b"once %d" % number, SMALL, 60)
    assert len(store._let_go) <= 10


async def test_putting_a_key_again_replaces_its_answer_and_its_time() -> None:
    clock = FakeClock()
    store = MemoryStore(10 * SMALL_BYTES, clock=clock)
    await store.put(b"k", SMALL, 60)
    clock.now += 40
    newer = of_bytes(50)
    await store.put(b"k", newer, 60)
    clock.now += 40
    assert await store.get("m", b"k") is newer
    assert store.size_bytes == 50 + ENTRY_OVERHEAD_BYTES


async def test_an_answer_larger_than_the_whole_store_is_not_kept_and_costs_nobody_a_place() -> None:
    store = MemoryStore(2 * SMALL_BYTES)
    await store.put(b"a", SMALL, 60)
    await store.put(b"large", of_bytes(3 * SMALL_BYTES), 60)
    assert await store.get("m", b"large") is None
    assert await store.get("m", b"a") is SMALL


@pytest.mark.parametrize("limit_bytes", [0, ENTRY_OVERHEAD_BYTES])
async def test_a_store_without_room_keeps_nothing(limit_bytes: int) -> None:
    store = MemoryStore(limit_bytes)
    await store.put(b"k", SMALL, 60)
    assert await store.get("m", b"k") is None


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3000), st.booleans(), st.floats(0, 40)), max_size=40)
)
async def test_it_never_holds_more_than_its_limit_and_counts_what_it_holds(
    steps: list[tuple[int, int, bool, float]],
) -> None:
    clock = FakeClock()
    store = MemoryStore(8000, clock=clock)
    for number, size, is_put, passed in steps:
        clock.now += passed
        if is_put:
            await store.put(bytes([number]), of_bytes(size), 60)
        else:
            await store.get("m", bytes([number]))
        small, both = store._small.values(), [*store._small.values(), *store._main.values()]
        held = sum(len(entry.response.outputs[0].data) for entry in both)
        assert store.size_bytes == held + ENTRY_OVERHEAD_BYTES * len(both) <= 8000
        assert store._small_bytes == sum(entry.size_bytes for entry in small)


async def test_voiding_a_model_drops_its_answers_and_gives_their_room_back() -> None:
    store = MemoryStore(10 * SMALL_BYTES)
    await store.put(b"a", SMALL, 60)
    await store.put(b"b", replace(SMALL, model="other"), 60)
    assert await store.void("m") == 1
    assert await store.get("m", b"a") is None
    assert await store.get("other", b"b") is not None
    assert (store.size_bytes, store.voids) == (SMALL_BYTES, 1)
