"""SingleFlight: identical requests in flight cost one inference, and nobody harms another."""

import asyncio
import math

import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import DeadlineExceeded, Unavailable
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


async def test_a_flight_says_the_latest_deadline_of_all_who_have_joined_and_never_an_earlier_one() -> None:
    rig = Rig()
    now = rig.clock.now
    tasks = [await rig.ask(a_request(key=b"k", deadline=now + 5.0, priority=3))]
    (flown,) = rig.backend.requests
    assert (flown.deadline, flown.latest_deadline, flown.priority) == (math.inf, now + 5.0, 3)
    tasks.append(await rig.ask(a_request(key=b"k", deadline=now + 9.0, priority=1)))
    assert flown.latest_deadline == now + 9.0
    tasks.append(await rig.ask(a_request(key=b"k", deadline=now + 7.0)))
    assert (flown.latest_deadline, flown.priority) == (now + 9.0, 3)
    rig.land()
    await asyncio.gather(*tasks)


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


async def test_the_flight_knows_neither_id_nor_deadline_of_who_started_it() -> None:
    rig = Rig()
    rig.land()
    await rig.infer(a_request(key=b"k", id="7", deadline=rig.clock.now + 60))
    assert (rig.backend.requests[0].id, rig.backend.requests[0].deadline) == ("", math.inf)


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


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_a_waiter_that_leaves_harms_no_other(leaver: int) -> None:
    rig = Rig()
    tasks = [await rig.ask() for _ in range(3)]
    tasks[leaver].cancel()
    await settle()
    rig.land()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(leaver), asyncio.CancelledError)
    assert all(isinstance(result, InferResponse) for result in results)
    assert len(rig.backend.requests) == 1


@pytest.mark.parametrize("position", [0, 1])
async def test_a_waiter_whose_deadline_passes_harms_no_other(position: int) -> None:
    rig = Rig()
    deadlines = [math.inf, math.inf]
    deadlines[position] = rig.clock.now + SOON
    tasks = [await rig.ask(a_request(key=b"k", deadline=deadline)) for deadline in deadlines]
    with pytest.raises(DeadlineExceeded, match="model 'adder': no answer before the deadline"):
        await tasks.pop(position)
    rig.land()
    assert (await tasks[0]).outputs == (SUM,)
    assert len(rig.backend.requests) == 1


async def test_a_later_deadline_keeps_alive_the_flight_that_an_earlier_one_started() -> None:
    rig = Rig()
    first = await rig.ask(a_request(key=b"k", deadline=rig.clock.now + SOON))
    second = await rig.ask(a_request(key=b"k", deadline=rig.clock.now + 60))
    with pytest.raises(DeadlineExceeded):
        await first
    third = await rig.ask()
    assert rig.backend.cancelled == 0
    rig.land()
    assert [(await task).cache for task in (second, third)] == ["shared", "shared"]
    assert len(rig.backend.requests) == 1


async def test_the_last_waiter_to_leave_ends_the_flight() -> None:
    rig = Rig()
    tasks = [await rig.ask() for _ in range(2)]
    tasks[0].cancel()
    await settle()
    assert rig.backend.cancelled == 0
    tasks[1].cancel()
    await settle()
    assert rig.backend.cancelled == 1


async def test_the_last_deadline_to_pass_ends_the_flight() -> None:
    rig = Rig()
    with pytest.raises(DeadlineExceeded):
        await rig.infer(a_request(key=b"k", deadline=rig.clock.now + SOON))
    await settle()
    assert rig.backend.cancelled == 1


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


async def test_a_flight_that_fails_after_its_last_waiter_left_troubles_nobody() -> None:
    """Neither "Task exception was never retrieved" nor anything else: warnings are errors here."""

    class Stubborn(FakeInfer):
        async def __call__(self, request: InferRequest, /) -> InferResponse:
            try:
                return await super().__call__(request)
            except asyncio.CancelledError:
                raise Unavailable("broke while it was being cancelled") from None

    rig = Rig(Stubborn())
    task = await rig.ask()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert rig.backend.cancelled == 1


async def test_nothing_is_held_once_all_flights_have_landed() -> None:
    rig = Rig()
    tasks = [await rig.ask(a_request(key=bytes([number]))) for number in range(5)]
    tasks[0].cancel()
    rig.land()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settle()
    assert rig.infer._flights == {}


async def test_a_flight_that_has_landed_is_joined_until_a_waiter_has_its_answer() -> None:
    """Else whoever comes in between finds the answer neither here nor yet in memory, and pays again."""
    rig = Rig()
    task = await rig.ask()
    joinable: list[bool] = []
    rig.infer._flights[b"k"].task.add_done_callback(lambda _: joinable.append(b"k" in rig.infer._flights))
    rig.land()
    await task
    assert joinable == [True]
    assert rig.infer._flights == {}


async def test_whoever_comes_after_a_flight_failed_starts_a_new_one() -> None:
    rig = Rig(FakeInfer(Unavailable("nobody left"), lambda _: (SUM,)))
    rig.land()
    with pytest.raises(Unavailable):
        await rig.infer(KEYED)
    assert (await rig.infer(KEYED)).outputs == (SUM,)
