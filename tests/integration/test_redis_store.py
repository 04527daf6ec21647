"""The Redis tier against a real redis-server: right answers only, and no waiting while it is down."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from gateway.caching import redis as redis_store
from gateway.caching.redis import PREFIX, RedisStore
from gateway.inference import InferResponse, Tensor
from gateway.metrics import Metrics
from gateway.redis_node import RedisDown, RedisNode
from services import redis
from services.launch import Launch, Running, free_port
from tests.fakes import FakeClock

ANSWER = InferResponse(
    "adder",
    "1",
    (Tensor("sum", "FP32", (1, 2), bytes(range(8))), Tensor.of_bytes("words", (2,), [b"a", b""])),
    variant="fp32",
    backend="triton",
    endpoint="t1",
    parameters={"gain": 0.5, "exact": True, "steps": 3, "note": "x"},
)

ENTRY = PREFIX + b"adder:k"


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return redis.launch(run_dir=tmp_path_factory.mktemp("redis"), port=free_port())


@pytest.fixture(scope="module")
def server(launch: Launch) -> Iterator[str]:
    with Running(launch):
        yield address(launch)


def address(launch: Launch) -> str:
    return f"redis://{launch.addresses['redis']}/0"


class Tier:
    """A store, and what it says of itself."""

    def __init__(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        self.clock = FakeClock()
        self.up = Gauge("up", "Whether Redis answers.", registry=None)
        self.link = RedisNode(
            url,
            timeout_seconds=timeout_seconds,
            retry_after_seconds=1.0,
            tell_up=self.up.set,
            clock=self.clock,
        )
        self.registry = CollectorRegistry()
        self.store = RedisStore(self.link, Metrics(self.registry), clock=self.clock)

    def skipped(self, operation: str) -> float | None:
        """How often Redis was not asked."""
        name = "gateway_cache_redis_skipped_total"
        return self.registry.get_sample_value(name, {"operation": operation})

    async def put(self, *keys: bytes, answer: InferResponse = ANSWER, ttl_seconds: float = 60) -> None:
        """Put and wait until it is written, as no request does."""
        for key in keys:
            await self.store.put(key, answer, ttl_seconds)
        await asyncio.gather(*self.store._writes)

    @property
    def is_up(self) -> bool:
        return bool(self.up._value.get() == 1)


@asynccontextmanager
async def a_tier(url: str, *, timeout_seconds: float = 30.0) -> AsyncIterator[Tier]:
    tier = Tier(url, timeout_seconds=timeout_seconds)
    yield tier
    await tier.store.aclose()


@pytest.fixture
async def tier(server: str) -> AsyncIterator[Tier]:
    async with a_tier(server) as made:
        await made.link.redis.flushall()
        yield made


async def test_an_answer_comes_back_as_it_was_put(tier: Tier) -> None:
    await tier.put(b"k")
    assert await tier.store.get("adder", b"k") == ANSWER
    assert await tier.store.get("adder", b"other") is None
    assert tier.is_up


async def test_whose_answer_it_was_is_not_kept(tier: Tier) -> None:
    await tier.put(b"k", answer=InferResponse("adder", "1", (), id="7", cache="miss"))
    assert await tier.store.get("adder", b"k") == InferResponse("adder", "1", ())


async def test_another_gateway_finds_the_answer(tier: Tier, server: str) -> None:
    await tier.put(b"k")
    async with a_tier(server) as other:
        assert await other.store.get("adder", b"k") == ANSWER


@pytest.mark.parametrize(("ttl_seconds", "milliseconds"), [(60, 60_000), (0.25, 250), (0.0001, 1)])
async def test_an_answer_is_kept_as_long_as_it_may_be(
    tier: Tier, ttl_seconds: float, milliseconds: int
) -> None:
    sent: list[tuple[bytes, int]] = []

    async def remember(entries: Sequence[tuple[bytes, bytes, int]]) -> None:
        sent.extend((key, milliseconds) for key, _, milliseconds in entries)

    tier.link.set_many = remember  # type: ignore[method-assign, assignment]
    await tier.put(b"k", ttl_seconds=ttl_seconds)
    assert sent == [(ENTRY, milliseconds)]


async def test_voiding_a_model_drops_all_of_its_answers_and_nothing_else(tier: Tier) -> None:
    keys = [number.to_bytes(2, "big") for number in range(2500)]  # more than one page of SCAN
    for start in range(0, len(keys), 500):
        await tier.put(*keys[start : start + 500])
    other = replace(ANSWER, model="add")
    await tier.put(b"k", answer=other)
    await tier.link.redis.set("quota:adder", "7")
    dropped = await tier.store.void("adder")
    assert dropped is not None
    assert dropped >= len(keys)
    assert await asyncio.gather(*(tier.store.get("adder", key) for key in keys)) == [None] * len(keys)
    assert await tier.store.get("add", b"k") == other
    assert await tier.link.redis.get("quota:adder") == b"7"
    assert await tier.store.void("adder") == 0


async def test_what_is_on_its_way_is_there_to_be_voided_once_the_store_has_settled(tier: Tier) -> None:
    await tier.store.void("adder")
    voids = tier.store.voids
    await tier.store.put(b"k", ANSWER, 60)
    await tier.store.settle()
    assert tier.store.voids == voids + 1
    assert await tier.store.void("adder") == 1


async def test_redis_itself_lets_the_answer_go(tier: Tier) -> None:
    await tier.put(b"k", ttl_seconds=300)
    left = await tier.link.redis.pttl(ENTRY)
    assert 0 < left <= 300_000


@pytest.mark.parametrize("frame", [b"", b"garbage", b"\x0e\0\0\0" + b'{"outputs":[]}', b"\x04\0\0\0null"])
async def test_an_entry_that_cannot_be_read_is_no_answer(tier: Tier, frame: bytes) -> None:
    await tier.link.redis.set(ENTRY, frame)
    assert await tier.store.get("adder", b"k") is None
    assert tier.is_up


async def test_an_entry_that_was_damaged_is_no_answer(tier: Tier) -> None:
    await tier.put(b"k")
    assert await tier.link.redis.setrange(ENTRY, 0, b"\x01") > 1
    assert await tier.store.get("adder", b"k") is None


async def test_a_look_up_that_is_given_up_never_hands_its_answer_to_the_next(tier: Tier) -> None:
    """A reply left on a connection would be read as the answer to another key."""
    answers = {
        bytes([number]): InferResponse("adder", "1", (Tensor("n", "UINT8", (1,), bytes([number])),))
        for number in range(50)
    }
    for key, answer in answers.items():
        await tier.put(key, answer=answer)
    for steps in range(12):
        given_up = [asyncio.create_task(tier.store.get("adder", key)) for key in answers]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        found = await asyncio.gather(*(tier.store.get("adder", key) for key in answers))
        assert found == list(answers.values())


async def test_look_ups_and_writes_of_one_tick_are_one_round_trip_each(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = 0
    attempt = tier.link.attempt

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal trips
        trips += 1
        return await attempt(*args, **options)

    monkeypatch.setattr(tier.link, "attempt", counted)
    keys = [bytes([number]) for number in range(32)]
    await tier.put(*keys)
    assert trips == 1
    assert await asyncio.gather(*(tier.store.get("adder", key) for key in keys)) == [ANSWER] * 32
    assert trips == 2


async def test_what_finds_too_much_waiting_goes_on_without_redis(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier.store._look_ups, "_waiting_max", 3)
    await tier.put(b"k")
    found = await asyncio.gather(*(tier.store.get("adder", b"k") for _ in range(5)))
    assert found == [ANSWER] * 3 + [None] * 2
    assert tier.skipped("look_up") == 2


async def test_answers_that_wait_to_be_written_are_bounded_in_bytes(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    size_bytes = sum(len(tensor.data) for tensor in ANSWER.outputs)
    monkeypatch.setattr(redis_store, "WRITING_BYTES", 2 * size_bytes)
    for key in (b"1", b"2", b"3"):
        await tier.store.put(key, ANSWER, 60)
    await tier.store.settle()
    await tier.put(b"4")
    found = [await tier.store.get("adder", key) is not None for key in (b"1", b"2", b"3", b"4")]
    assert found == [True, True, False, True]
    assert tier.skipped("write") == 1


async def test_hundreds_of_look_ups_at_once_all_find_their_answers(tier: Tier) -> None:
    keys = [f"key {number}".encode() for number in range(400)]
    await tier.put(*keys)
    assert await asyncio.gather(*(tier.store.get("adder", key) for key in keys)) == [ANSWER] * 400
    assert tier.is_up


async def test_the_writes_under_way_are_finished_on_the_way_out(tier: Tier, server: str) -> None:
    async with a_tier(server) as leaving:
        await leaving.store.put(b"k", ANSWER, 60)
    assert await tier.store.get("adder", b"k") == ANSWER


async def test_without_a_server_there_is_no_answer_and_the_metric_says_so() -> None:
    async with a_tier(f"redis://127.0.0.1:{free_port()}/0") as tier:
        await tier.put(b"k")
        assert await tier.store.get("adder", b"k") is None
        assert not await tier.link.ping()
        assert not tier.is_up


async def test_a_server_that_hangs_is_given_up_after_the_timeout_and_then_left_alone() -> None:
    connections = 0

    async def accept_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    hanging = await asyncio.start_server(accept_and_say_nothing, "127.0.0.1", 0)
    port = hanging.sockets[0].getsockname()[1]
    async with hanging, a_tier(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.01) as tier:
        assert await tier.store.get("adder", b"k") is None
        tried = connections
        for _ in range(10):
            assert await tier.store.get("adder", b"k") is None
        assert connections == tried
        tier.clock.now += 1.0
        await tier.store.get("adder", b"k")
        assert connections > tried


async def test_only_one_request_waits_to_see_whether_a_hanging_redis_is_back() -> None:
    connections = 0

    async def accept_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    hanging = await asyncio.start_server(accept_and_say_nothing, "127.0.0.1", 0)
    port = hanging.sockets[0].getsockname()[1]
    async with hanging, a_tier(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.05) as tier:
        assert await tier.store.get("adder", b"k") is None
        tried = connections
        tier.clock.now += 1.0
        assert await asyncio.gather(*(tier.store.get("adder", b"k") for _ in range(20))) == [None] * 20
        assert connections == tried + 1


async def test_a_redis_that_comes_back_and_refuses_a_command_is_up(tier: Tier) -> None:
    tier.link._down_until = -1.0
    with pytest.raises(RedisDown):
        await tier.link.attempt(tier.link.redis.execute_command, "NONSENSE")
    assert (tier.is_up, tier.link._down_until) == (True, 0.0)


async def test_a_redis_that_is_killed_and_comes_back_loses_only_its_answers(tmp_path: Path) -> None:
    launch = redis.launch(run_dir=tmp_path, port=free_port())
    with Running(launch) as first:
        async with a_tier(address(launch)) as tier:
            await tier.put(b"k")
            seen = [(await tier.store.get("adder", b"k"), tier.is_up)]
            first.kill()
            seen.append((await tier.store.get("adder", b"k"), tier.is_up))
            with Running(launch):
                seen.append(
                    (await tier.store.get("adder", b"k"), tier.is_up)
                )  # left alone until the pause is over
                tier.clock.now += 1.0
                assert await tier.link.ping()
                await tier.put(b"k")
                seen.append((await tier.store.get("adder", b"k"), tier.is_up))
    assert seen == [(ANSWER, True), (None, False), (None, False), (ANSWER, True)]


async def test_a_redis_that_is_full_still_gives_what_it_has(tier: Tier) -> None:
    await tier.put(b"k")
    config: Any = tier.link.redis
    limit = (await config.config_get("maxmemory"))["maxmemory"]
    await config.config_set("maxmemory-policy", "noeviction")  # first: else the limit would empty it
    await config.config_set("maxmemory", 1)
    try:
        await tier.put(b"other")
        assert tier.is_up
        assert await tier.store.get("adder", b"other") is None
        assert await tier.store.get("adder", b"k") is not None
    finally:
        await config.config_set("maxmemory", limit)
        await config.config_set("maxmemory-policy", "allkeys-lru")
