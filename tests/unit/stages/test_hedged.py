"""Hedged: a second attempt elsewhere after the pool's own 95th percentile; the first good answer wins."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.balancing.retry_budget import RetryBudget
from gateway.errors import (
    DeadlineExceeded,
    EndpointFailed,
    EndpointFailure,
    EndpointUnreachable,
    InferwayError,
    RejectedByBackend,
    Unavailable,
)
from gateway.inference import InferRequest, InferResponse, Tensor
from tests.fakes import FakeInfer, a_request, settle, until
from tests.unit.stages.hedged_rig import POOL, USUAL_SECONDS, Rig, asked, hanging


async def test_an_answer_in_the_usual_time_costs_no_second_attempt() -> None:
    rig = Rig(FakeInfer(), FakeInfer())
    assert (await rig.infer(asked())).endpoint == "a"
    await asyncio.sleep(0.005)  # past the delay: its timer must be gone
    assert (rig.attempts(), rig.hedges()) == ({"ok": 1}, {})


async def test_a_slow_first_attempt_is_answered_by_another_endpoint_and_given_up() -> None:
    slow = hanging()
    rig = Rig(slow, FakeInfer())
    assert (await rig.infer(asked())).endpoint == "b"
    assert slow.cancelled == 1
    assert rig.in_flight() == [0, 0]
    assert (rig.attempts(), rig.hedges()) == ({"ok": 1, "abandoned": 1}, {"won": 1})


async def test_what_waited_to_be_sent_for_longer_than_the_delay_is_hedged_once_it_was_sent() -> None:
    rig = Rig(hanging(), FakeInfer())
    has_room = asyncio.Event()

    async def queued(request: InferRequest, /) -> InferResponse:
        await has_room.wait()
        return await rig.balancer(request)

    rig.infer.call_next = queued
    task = asyncio.create_task(rig.infer(asked()))
    await asyncio.sleep(0.01)
    assert rig.attempts() == {}
    has_room.set()
    assert (await asyncio.wait_for(task, 10)).endpoint == "b"
    assert rig.hedges() == {"won": 1}


async def test_the_hedge_is_given_up_when_the_first_answers() -> None:
    first, second = hanging(), hanging()
    rig = Rig(first, second)
    task = await rig.until_hedged()
    first.is_open.set()
    assert (await task).endpoint == "a"
    await settle()
    assert second.cancelled == 1
    assert rig.in_flight() == [0, 0]
    assert (rig.attempts(), rig.hedges()) == ({"ok": 1, "abandoned": 1}, {"lost": 1})


async def test_losing_ejects_nobody_and_teaches_no_latency_that_is_too_short() -> None:
    first, second = hanging(), hanging()
    rig = Rig(first, second)
    rig.endpoints[1].latency.observe(5.0, rig.clock.now)
    for _ in range(5):
        task = await rig.until_hedged()
        rig.clock.now += 0.5
        first.is_open.set()
        await task
        await settle()
        first.is_open.clear()
    assert rig.endpoints[1].latency.at(rig.clock.now) > 3
    assert rig.balancer.takes(asked(excluded=frozenset("a")))


async def test_a_failed_first_attempt_waits_for_its_hedge() -> None:
    first, second = hanging(EndpointFailed("a broke")), hanging()
    rig = Rig(first, second)
    task = await rig.until_hedged()
    first.is_open.set()
    await settle()
    assert not task.done()
    second.is_open.set()
    assert (await task).endpoint == "b"
    assert (rig.attempts(), rig.hedges()) == ({"EndpointFailed": 1, "ok": 1}, {"won": 1})


async def test_a_failed_hedge_leaves_the_first_attempt_to_its_end() -> None:
    first = hanging()
    rig = Rig(first, FakeInfer(EndpointFailed("b broke")))
    task = asyncio.create_task(rig.infer(asked()))
    await until(rig.attempts)
    await settle()
    assert not task.done()
    first.is_open.set()
    assert (await task).endpoint == "a"
    assert (rig.attempts(), rig.hedges()) == ({"EndpointFailed": 1, "ok": 1}, {"lost": 1})


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_when_both_fail_the_retry_goes_to_neither(order: str) -> None:
    infers = {"a": hanging(EndpointFailed("a broke")), "b": hanging(EndpointFailed("b broke"))}
    rig = Rig(*infers.values(), FakeInfer())
    rig.endpoints[2].latency.observe(9.0, rig.clock.now)
    task = await rig.until_hedged()
    for name in order:
        infers[name].is_open.set()
        await settle()
    with pytest.raises(EndpointFailed) as caught:
        await task
    assert {caught.value.endpoint, caught.value.hedged_at} == {"a", "b"}
    assert rig.in_flight() == [0, 0, 0]
    assert (rig.attempts(), rig.hedges()) == ({"EndpointFailed": 2}, {"lost": 1})


async def test_of_two_failures_the_one_that_was_sent_is_told() -> None:
    first = hanging(EndpointFailed("a broke"))
    rig = Rig(first, FakeInfer(EndpointUnreachable("connection refused")))
    task = asyncio.create_task(rig.infer(asked()))
    await until(rig.attempts)
    first.is_open.set()
    with pytest.raises(EndpointFailed, match="a broke") as caught:
        await task
    assert (caught.value.endpoint, caught.value.hedged_at) == ("a", "b")


async def test_no_endpoint_left_for_the_hedge_is_the_first_ones_failure() -> None:
    first = hanging(EndpointFailed("a broke"))
    rig = Rig(first, FakeInfer(Unavailable("nobody is left")))
    task = asyncio.create_task(rig.infer(asked()))
    await until(rig.attempts)
    first.is_open.set()
    with pytest.raises(EndpointFailed, match="a broke"):
        await task


@pytest.mark.parametrize("error", [RejectedByBackend("no digit"), DeadlineExceeded("late")])
async def test_what_another_endpoint_would_say_too_ends_both(error: InferwayError) -> None:
    first, second = hanging(error), hanging()
    rig = Rig(first, second)
    task = await rig.until_hedged()
    first.is_open.set()
    with pytest.raises(type(error)):
        await task
    await settle()
    assert second.cancelled == 1
    assert rig.in_flight() == [0, 0]


async def test_a_caller_that_leaves_ends_both() -> None:
    first, second = hanging(), hanging()
    rig = Rig(first, second)
    task = await rig.until_hedged()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert (first.cancelled, second.cancelled) == (1, 1)
    assert rig.in_flight() == [0, 0]
    assert rig.attempts() == {"abandoned": 2}


def not_ready(rig: Rig) -> None:
    rig.endpoints[1].is_ready = False


def ejected(rig: Rig) -> None:
    for _ in range(3):
        rig.endpoints[1].outlier.failed(rig.clock.now)


def late(rig: Rig) -> None:
    loop = asyncio.get_running_loop()  # in the turn after the one in which the first attempt begins
    loop.call_soon(loop.call_soon, setattr, rig.clock, "now", rig.clock.now + 100)


@pytest.mark.parametrize("prepare", [not_ready, ejected, late])
async def test_a_hedge_that_cannot_help_costs_no_budget(prepare: Callable[[Rig], None]) -> None:
    first = hanging()
    rig = Rig(first, FakeInfer(), hedges=1)
    prepare(rig)
    task = asyncio.create_task(rig.infer(asked(deadline=rig.clock.now + 50)))
    await asyncio.sleep(0.01)
    first.is_open.set()
    await task
    assert rig.hedges() == {}
    assert rig.budget.withdraw(rig.clock.now)


async def test_without_budget_the_first_attempt_is_waited_for_and_the_refusal_counted() -> None:
    first = hanging()
    rig = Rig(first, FakeInfer(), hedges=0)
    task = asyncio.create_task(rig.infer(asked()))
    await until(rig.hedges)
    first.is_open.set()
    assert (await task).endpoint == "a"
    assert rig.hedges() == {"refused": 1}


@pytest.mark.parametrize(
    ("request_", "observations"),
    [
        (asked(), 99),
        (a_request(variant=""), 100),
        (a_request(version="1", variant="int8"), 100),
    ],
    ids=["too few observations", "no contract", "another pool"],
)
async def test_what_is_not_to_be_hedged_is_not(request_: InferRequest, observations: int) -> None:
    first = hanging()
    rig = Rig(first, FakeInfer(), observations=observations)
    task = asyncio.create_task(rig.infer(request_))
    await asyncio.sleep(0.01)
    assert sum(rig.in_flight()) == 1
    first.is_open.set()
    await task
    assert rig.hedges() == {}


async def test_a_deadline_before_the_delay_is_over_needs_no_hedge() -> None:
    rig = Rig(hanging(), FakeInfer())
    with pytest.raises(DeadlineExceeded):
        await rig.infer(asked(deadline=rig.clock.now + USUAL_SECONDS))
    assert (rig.attempts(), rig.hedges()) == ({"abandoned": 1}, {})


async def test_only_answers_pay_for_hedges() -> None:
    rig = Rig(FakeInfer(*[EndpointFailed("it broke")] * 2, lambda _: ()))
    rig.budget = rig.infer._pools[POOL].budget = RetryBudget(ratio=1, floor_per_second=0)
    for _ in range(2):
        with pytest.raises(EndpointFailure):
            await rig.infer(asked())
    assert not rig.budget.withdraw(rig.clock.now)
    await rig.infer(asked())
    assert rig.budget.withdraw(rig.clock.now)


async def test_the_first_attempts_endpoints_and_those_that_failed_before_are_not_asked_again() -> None:
    slow, second = hanging(), FakeInfer()
    rig = Rig(FakeInfer(), slow, second)
    await rig.infer(asked(excluded=frozenset("a")))
    assert len(slow.requests) == 1
    assert [set(request.excluded) for request in second.requests] == [{"a", "b"}]


async def test_picked_names_every_endpoint_that_was_asked_in_a_list_that_the_caller_brought() -> None:
    picked: list[str] = []
    await Rig(hanging(), FakeInfer()).infer(asked(picked=picked))
    assert picked == ["a", "b"]


async def test_what_failed_here_does_not_look_like_a_hedge_when_it_is_tried_again() -> None:
    rig = Rig(FakeInfer(EndpointFailed("a broke")), FakeInfer())
    with pytest.raises(EndpointFailed):
        await rig.infer(request := asked())
    assert request.without("a").picked is None


async def test_a_hedge_that_won_counts_as_slow_as_the_answer_came() -> None:
    def take_5_ms(_: InferRequest) -> tuple[Tensor, ...]:
        rig.clock.now += 0.005
        return ()

    rig = Rig(hanging(), FakeInfer(take_5_ms))
    for _ in range(10):  # of 110
        await rig.infer(asked())
        rig.endpoints[0].latency.observe(0, rig.clock.now + 1000)  # so that it is first again
    assert rig.infer._pools[POOL].latency.at(rig.clock.now + 1) > 0.005


async def test_a_timeout_that_is_not_the_races_own_passes() -> None:
    async def broken(_: InferRequest, /) -> InferResponse:
        raise TimeoutError("its own")

    rig = Rig(FakeInfer(), FakeInfer())
    rig.infer.call_next = broken
    with pytest.raises(TimeoutError, match="its own"):
        await rig.infer(asked())


def test_what_is_counted_is_shown_as_0_before_it_happens() -> None:
    registry = Rig(FakeInfer(), FakeInfer()).registry
    for result in ("won", "lost", "refused"):
        assert registry.get_sample_value("gateway_hedges_total", {"model": "adder", "result": result}) == 0
