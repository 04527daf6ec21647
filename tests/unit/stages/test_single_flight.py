"""SingleFlight: identical requests in flight cost one inference, and nobody harms another."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import DeadlineExceeded, Overloaded, Unavailable
from gateway.inference import InferRequest, InferResponse
from gateway.metrics import Metrics
from gateway.stages.single_flight import SingleFlight
from tests.fakes import SUM, FakeClock, FakeInfer, a_contract, a_request, settle

KEYED = a_request(key=b"k")
SOON = 0.2
"""Seconds until a deadline that passes while the flight is held."""


class Rig:
    """A SingleFlight over a fake whose flights are held until `land`."""

    def __init__(self, infer: FakeInfer | None = None) -> None:
        self.backend = infer or FakeInfer()
        self.backend.is_open.clear()
        self.registry = CollectorRegistry()
        self.clock = FakeClock()
        self.infer = SingleFlight(
            self.backend,
            contracts={"adder": a_contract()},
            metrics=Metrics(self.registry),
            clock=self.clock,
        )

    async def ask(self, request: InferRequest = KEYED) -> asyncio.Task[InferResponse]:
        task = asyncio.create_task(self.infer(request))
        await settle()
        return task

    def land(self) -> None:
        self.backend.is_open.set()

    def lookups(self, result: str) -> float | None:
        labels = {"model": "adder", "tier": "shared", "result": result}
        return self.registry.get_sample_value("gateway_cache_lookups_total", labels)


async def test_twenty_identical_requests_in_flight_cost_one_inference() -> None:
    rig = Rig()
    tasks = [await rig.ask() for _ in range(20)]
    rig.land()
    responses = await asyncio.gather(*tasks)
    assert len(rig.backend.requests) == 1
    assert {response.outputs for response in responses} == {(SUM,)}
    assert (rig.lookups("miss"), rig.lookups("hit")) == (1, 19)


async def test_who_joined_is_told_so_and_who_started_the_flight_is_not() -> None:
    rig = Rig()
    tasks = [await rig.ask() for _ in range(3)]
    rig.land()
    assert [(await task).cache for task in tasks] == ["off", "shared", "shared"]


async def test_different_keys_never_join() -> None:
    rig = Rig()
    tasks = [await rig.ask(a_request(key=key)) for key in (b"a", b"b")]
    rig.land()
    await asyncio.gather(*tasks)
    assert len(rig.backend.requests) == 2


async def test_requests_without_a_key_never_join() -> None:
    rig = Rig()
    tasks = [await rig.ask(a_request()) for _ in range(2)]
    rig.land()
    await asyncio.gather(*tasks)
    assert len(rig.backend.requests) == 2
    assert rig.lookups("miss") == 0


async def test_a_request_after_the_flight_has_landed_starts_another() -> None:
    rig = Rig()
    first = await rig.ask()
    rig.land()
    await first
    assert (await rig.infer(KEYED)).cache == "off"
    assert len(rig.backend.requests) == 2


async def test_who_begins_a_flight_asks_in_its_own_task_and_with_its_own_deadline() -> None:
    rig = Rig()
    rig.land()
    work = rig.infer(request := a_request(key=b"k", deadline=rig.clock.now + 60))
    with pytest.raises(StopIteration):  # a coroutine that waits for a task would yield here
        work.send(None)
    assert rig.backend.requests == [request]


async def test_an_error_reaches_all_who_wait() -> None:
    rig = Rig(FakeInfer(Unavailable("all are down")))
    tasks = [await rig.ask() for _ in range(5)]
    rig.land()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["all are down"] * 5
    assert len(rig.backend.requests) == 1


async def test_an_error_is_not_kept_for_later_requests() -> None:
    rig = Rig(FakeInfer(Unavailable("all are down"), lambda _: (SUM,)))
    rig.land()
    with pytest.raises(Unavailable):
        await rig.infer(KEYED)
    assert (await rig.infer(KEYED)).outputs == (SUM,)


@pytest.mark.parametrize(("leaver", "asked"), [(0, 2), (1, 1), (2, 1)])
async def test_whoever_leaves_harms_no_other(leaver: int, asked: int) -> None:
    """When it is the one that asks, another asks anew."""
    rig = Rig()
    tasks = [await rig.ask() for _ in range(3)]
    tasks[leaver].cancel()
    await settle()
    rig.land()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(leaver), asyncio.CancelledError)
    assert all(isinstance(result, InferResponse) for result in results)
    assert len(rig.backend.requests) == asked
    assert rig.infer._flights == {}


async def test_a_waiter_whose_deadline_passes_harms_no_other() -> None:
    rig = Rig()
    first = await rig.ask()
    second = await rig.ask(a_request(key=b"k", deadline=rig.clock.now + SOON))
    with pytest.raises(DeadlineExceeded, match="model 'adder': no answer before the deadline"):
        await second
    rig.land()
    assert (await first).outputs == (SUM,)
    assert len(rig.backend.requests) == 1


async def test_when_the_deadline_of_the_one_that_asks_passes_the_most_patient_asks_anew() -> None:
    rig = Rig(FakeInfer(DeadlineExceeded("it is late"), lambda _: (SUM,)))
    now = rig.clock.now
    deadlines = [now + 60, now + 61, now + 65, now + 60]
    tasks = [await rig.ask(a_request(key=b"k", deadline=deadline)) for deadline in deadlines]
    rig.land()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(results[place]) for place in (0, 3)] == ["it is late"] * 2
    assert [result.cache for result in results if isinstance(result, InferResponse)] == ["shared", "off"]
    assert [request.deadline for request in rig.backend.requests] == [now + 60, now + 65]
    assert rig.infer._flights == {}


@pytest.mark.parametrize("leaves", ["at once", "later"])
async def test_who_was_to_ask_anew_and_leaves_too_hands_that_on(leaves: str) -> None:
    rig = Rig()
    tasks = [await rig.ask(a_request(key=b"k", deadline=rig.clock.now + left)) for left in (60, 62, 61)]
    tasks[0].cancel()
    await asyncio.sleep(0)  # now the second one is to ask, and has not yet run
    assert len(rig.backend.requests) == 1
    if leaves == "later":
        await settle()
        assert len(rig.backend.requests) == 2
    tasks[1].cancel()
    await settle()
    joined = await rig.ask(a_request(key=b"k", deadline=rig.clock.now + 60))
    rig.land()
    assert [(await task).cache for task in (tasks[2], joined)] == ["off", "shared"]
    assert len(rig.backend.requests) == (3 if leaves == "later" else 2)
    assert rig.infer._flights == {}


async def test_when_all_have_left_nobody_is_asked_any_more() -> None:
    rig = Rig()
    tasks = [await rig.ask() for _ in range(2)]
    for cancelled, task in enumerate(tasks, start=1):
        task.cancel()
        await settle()
        assert rig.backend.cancelled == cancelled
    assert rig.infer._flights == {}


async def test_nobody_joins_a_flight_that_was_ended() -> None:
    rig = Rig()
    last = await rig.ask()
    last.cancel()
    late = asyncio.create_task(rig.infer(KEYED))
    await settle()
    rig.land()
    assert (await late).outputs == (SUM,)
    assert len(rig.backend.requests) == 2


async def test_after_the_deadline_no_flight_is_started() -> None:
    rig = Rig()
    rig.land()
    with pytest.raises(DeadlineExceeded):
        await rig.infer(a_request(key=b"k", deadline=rig.clock.now))
    await settle()
    assert rig.backend.requests == []


async def test_a_timeout_inside_of_the_flight_is_not_taken_for_the_waiters_deadline() -> None:
    rig = Rig(FakeInfer(TimeoutError("a bug")))
    rig.land()
    with pytest.raises(TimeoutError, match="a bug"):
        await rig.infer(KEYED)


async def test_nothing_is_held_once_all_flights_have_landed() -> None:
    rig = Rig()
    tasks = [await rig.ask(a_request(key=bytes([number]))) for number in range(5)]
    tasks[0].cancel()
    rig.land()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settle()
    assert rig.infer._flights == {}


async def test_who_asked_gives_the_answer_to_the_memory_tier_before_anybody_can_miss_the_flight() -> None:
    """Else whoever comes in between finds the answer neither here nor yet in memory, and pays again."""
    rig = Rig()
    turns: list[bool] = []

    async def kept_at_once() -> None:
        await rig.infer(KEYED)
        turns.append(b"k" in rig.infer._flights)

    task = asyncio.create_task(kept_at_once())
    await settle()
    asyncio.get_running_loop().call_soon(rig.land)
    while not turns:
        assert b"k" in rig.infer._flights
        await asyncio.sleep(0)
    assert turns == [False]
    await task


async def test_nobody_joins_one_that_is_less_patient() -> None:
    """A limit of 0.2 s must not cost one of 0.45 s the answer of an engine that takes 0.3."""
    rig = Rig()
    now = rig.clock.now
    tasks = [await rig.ask(a_request(key=b"k", deadline=now + left)) for left in (10, 30, 31, 9)]
    assert [request.deadline for request in rig.backend.requests] == [now + 10, now + 30]
    tasks[0].cancel()
    await settle()
    rig.land()
    results = await asyncio.gather(*tasks[1:])
    assert [result.cache for result in results] == ["off", "shared", "shared"]
    assert len(rig.backend.requests) == 2
    assert rig.infer._flights == {}


async def test_who_is_shed_for_its_own_patience_or_priority_takes_nobody_with_it() -> None:
    rig = Rig(FakeInfer(Overloaded("late"), lambda _: (SUM,)))
    tasks = [await rig.ask(a_request(key=b"k", deadline=rig.clock.now + left)) for left in (60, 61, 62)]
    rig.land()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], Overloaded)
    assert [result.cache for result in results if isinstance(result, InferResponse)] == ["shared", "off"]


async def test_whoever_comes_after_a_flight_failed_starts_a_new_one() -> None:
    rig = Rig(FakeInfer(Unavailable("nobody left"), lambda _: (SUM,)))
    rig.land()
    with pytest.raises(Unavailable):
        await rig.infer(KEYED)
    assert (await rig.infer(KEYED)).outputs == (SUM,)
