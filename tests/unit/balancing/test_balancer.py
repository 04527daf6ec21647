"""The balancer: one attempt, what it costs its endpoint, and what is learnt from it."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.errors import (
    AttemptTimedOut,
    BadReply,
    DeadlineExceeded,
    EndpointBusy,
    EndpointFailed,
    EndpointFailure,
    EndpointUnreachable,
    RejectedByBackend,
    Unavailable,
)
from gateway.inference import InferRequest, PoolKey, Tensor
from gateway.metrics import Metrics
from tests.fakes import SUM, FakeClock, FakeInfer, a_request, settle

POOL = PoolKey("adder", "1", "fp32")
REQUEST = a_request(version="1", variant="fp32")
AT_ONCE = 0.001
"""Seconds: a limit that a call which hangs reaches without keeping the tests waiting."""
LABELS = {"model": "adder", "version": "1", "variant": "fp32", "backend": "fake"}


class Pool:
    """A balancer over fakes, one endpoint for each."""

    def __init__(self, *infers: FakeInfer, attempt_timeout_seconds: float = 60.0) -> None:
        self.clock = FakeClock()
        self.endpoints = [
            Endpoint(name, "fake", infer, is_ready=True) for name, infer in zip("abc", infers, strict=False)
        ]
        self.registry = CollectorRegistry()
        self.infer = Balancer(
            self.endpoints,
            pool=POOL,
            attempt_timeout_seconds=attempt_timeout_seconds,
            metrics=Metrics(self.registry),
            clock=self.clock,
            rng=Random(7),  # noqa: S311
        )
        self.infer.publish()

    def attempts(self, outcome: str) -> float:
        name = "gateway_attempt_duration_seconds_count"
        return self.registry.get_sample_value(name, {**LABELS, "outcome": outcome}) or 0.0

    def gauge(self, name: str, endpoint: str = "a") -> float | None:
        return self.registry.get_sample_value(f"gateway_endpoint_{name}", {**LABELS, "endpoint": endpoint})

    def eject(self, name: str) -> None:
        for endpoint in self.endpoints:
            for _ in range(3 * (endpoint.name == name)):
                endpoint.outlier.failed(self.clock.now)

    async def fail(self, times: int, kind: type[Exception] = EndpointFailure) -> None:
        for _ in range(times):
            with pytest.raises(kind):
                await self.infer(REQUEST)


def hanging() -> FakeInfer:
    infer = FakeInfer()
    infer.is_open.clear()
    return infer


async def test_an_answer_names_the_endpoint_that_gave_it() -> None:
    pool = Pool(FakeInfer())
    response = await pool.infer(REQUEST)
    assert (response.endpoint, response.outputs) == ("a", (SUM,))
    assert pool.attempts("ok") == 1


async def test_after_the_deadline_nothing_is_sent() -> None:
    backend = FakeInfer()
    pool = Pool(backend)
    with pytest.raises(DeadlineExceeded):
        await pool.infer(a_request(deadline=pool.clock.now))
    assert backend.requests == []


@pytest.mark.parametrize(("seconds", "left_seconds"), [(math.inf, 60.0), (90.0, 60.0), (7.0, 7.0)])
async def test_the_endpoint_gets_the_request_with_the_attempts_end_as_its_deadline(
    seconds: float, left_seconds: float
) -> None:
    backend = FakeInfer()
    pool = Pool(backend)
    await pool.infer(replace(REQUEST, deadline=pool.clock.now + seconds))
    assert backend.requests == [replace(REQUEST, deadline=pool.clock.now + left_seconds)]


async def test_who_asks_for_it_is_told_the_endpoint_as_soon_as_it_is_picked() -> None:
    picked: list[str] = []
    pool = Pool(hanging(), FakeInfer())
    task = asyncio.create_task(pool.infer(replace(REQUEST, picked=picked).without("b")))
    await settle()
    assert picked == ["a"]
    task.cancel()


async def test_it_takes_what_an_endpoint_in_good_health_is_not_excluded_from() -> None:
    pool = Pool(FakeInfer(), FakeInfer())
    assert pool.infer.takes(REQUEST.without("a"))
    assert not pool.infer.takes(REQUEST.without("a", "b"))
    pool.endpoints[1].is_ready = False
    assert not pool.infer.takes(REQUEST.without("a"))


@pytest.mark.parametrize(
    ("takes_seconds", "kind", "failures"), [(5.0, DeadlineExceeded, 0), (1.0, AttemptTimedOut, 1)]
)
async def test_a_server_that_says_the_deadline_has_passed_is_blamed_only_if_it_has_not(
    takes_seconds: float, kind: type[Exception], failures: int
) -> None:
    def say_so(_: InferRequest) -> tuple[Tensor, ...]:
        pool.clock.now += takes_seconds
        raise TimeoutError

    pool = Pool(FakeInfer(say_so))
    with pytest.raises(kind):
        await pool.infer(replace(REQUEST, deadline=pool.clock.now + 5))
    assert pool.attempts("AttemptTimedOut") == failures


async def test_what_failed_before_is_not_asked_again() -> None:
    first, second = FakeInfer(), FakeInfer()
    pool = Pool(first, second)
    for _ in range(10):
        await pool.infer(REQUEST.without("a"))
    assert (len(first.requests), len(second.requests)) == (0, 10)


async def test_an_endpoint_that_is_busy_gets_less_than_an_idle_one() -> None:
    busy = hanging()
    idle = FakeInfer()
    pool = Pool(busy, idle)
    waiting = []
    while not busy.requests:
        waiting.append(asyncio.create_task(pool.infer(REQUEST)))
        await settle()
    before = len(idle.requests)
    for _ in range(10):
        await pool.infer(REQUEST)
    assert (len(busy.requests), len(idle.requests) - before) == (1, 10)
    busy.is_open.set()
    await asyncio.gather(*waiting)


async def succeed(pool: Pool) -> None:
    await pool.infer(REQUEST)


async def run_into_attempt_timeout(pool: Pool) -> None:
    with pytest.raises(AttemptTimedOut):
        await pool.infer(REQUEST)


async def run_into_deadline(pool: Pool) -> None:
    with pytest.raises(DeadlineExceeded):
        await pool.infer(a_request(deadline=pool.clock.now + AT_ONCE))


async def be_cancelled(pool: Pool) -> None:
    task = asyncio.create_task(pool.infer(REQUEST))
    await settle()
    assert pool.gauge("in_flight_requests") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def fail(pool: Pool) -> None:
    await pool.fail(1)


async def break_unexpectedly(pool: Pool) -> None:
    await pool.fail(1, ZeroDivisionError)


@pytest.mark.parametrize(
    ("backend", "limit_seconds", "act", "outcome"),
    [
        (FakeInfer, 60.0, succeed, "ok"),
        (hanging, AT_ONCE, run_into_attempt_timeout, "AttemptTimedOut"),
        (hanging, 60.0, run_into_deadline, "abandoned"),
        (hanging, 60.0, be_cancelled, "abandoned"),
        (lambda: FakeInfer(EndpointFailed("it broke")), 60.0, fail, "EndpointFailed"),
        (lambda: FakeInfer(ZeroDivisionError()), 60.0, break_unexpectedly, "internal"),
    ],
    ids=["ok", "attempt timeout", "deadline", "cancelled", "failed", "unexpected"],
)
async def test_however_an_attempt_ends_it_is_counted_and_no_longer_in_flight(
    backend: Callable[[], FakeInfer],
    limit_seconds: float,
    act: Callable[[Pool], Awaitable[None]],
    outcome: str,
) -> None:
    pool = Pool(backend(), attempt_timeout_seconds=limit_seconds)
    await act(pool)
    assert pool.endpoints[0].in_flight == 0
    assert pool.gauge("in_flight_requests") == 0
    assert pool.attempts(outcome) == 1


async def test_a_hang_ends_with_the_attempt_and_says_where() -> None:
    backend = hanging()
    pool = Pool(backend, attempt_timeout_seconds=AT_ONCE)
    with pytest.raises(AttemptTimedOut, match=r"no answer in 0\.001 s") as caught:
        await pool.infer(REQUEST)
    assert caught.value.endpoint == "a"
    assert backend.cancelled == 1


@pytest.mark.parametrize("kind", [EndpointFailed, EndpointUnreachable, BadReply])
async def test_so_many_failures_in_a_row_eject_an_endpoint(kind: type[EndpointFailure]) -> None:
    pool = Pool(FakeInfer(kind("it broke")))
    await pool.fail(2)
    assert (pool.gauge("available_ratio"), pool.gauge("ejections_total")) == (1, 0)
    await pool.fail(1)
    assert (pool.gauge("available_ratio"), pool.gauge("ejections_total")) == (0, 1)


async def test_so_many_hangs_in_a_row_eject_an_endpoint() -> None:
    pool = Pool(hanging(), attempt_timeout_seconds=AT_ONCE)
    await pool.fail(3, AttemptTimedOut)
    assert pool.gauge("ejections_total") == 1


@pytest.mark.parametrize("error", [RejectedByBackend("not a digit"), EndpointBusy("queue full")])
async def test_what_does_not_blame_the_endpoint_never_ejects_it(error: Exception) -> None:
    pool = Pool(FakeInfer(error))
    await pool.fail(20, type(error))
    assert (pool.gauge("available_ratio"), pool.gauge("ejections_total")) == (1, 0)


async def test_a_callers_short_deadline_never_blames_the_endpoint() -> None:
    """The event loop's timer may fire a little before the clock says that the deadline has passed."""
    pool = Pool(hanging())
    for _ in range(5):
        with pytest.raises(DeadlineExceeded):
            await pool.infer(a_request(deadline=pool.clock.now + AT_ONCE))
    assert (pool.gauge("available_ratio"), pool.gauge("ejections_total")) == (1, 0)
    assert pool.endpoints[0].outlier.is_suspect  # but the health check asks it


async def test_a_rejected_input_shows_that_the_endpoint_lives() -> None:
    failed, rejected = EndpointFailed("it broke"), RejectedByBackend("not a digit")
    pool = Pool(FakeInfer(failed, failed, rejected, failed, failed, rejected))
    for kind in (EndpointFailed, EndpointFailed, RejectedByBackend) * 2:
        await pool.fail(1, kind)
    assert pool.gauge("ejections_total") == 0


async def test_a_rejected_input_counts_under_its_code() -> None:
    pool = Pool(FakeInfer(RejectedByBackend("not a digit")))
    await pool.fail(1, RejectedByBackend)
    assert pool.attempts("invalid_argument") == 1


async def test_an_ejected_endpoint_gets_nothing_while_another_is_well() -> None:
    broken, well = FakeInfer(EndpointFailed("it broke")), FakeInfer()
    pool = Pool(broken, well)
    pool.eject("a")
    for _ in range(20):
        await pool.infer(REQUEST)
    assert (len(broken.requests), len(well.requests)) == (0, 20)


async def test_on_probation_one_answer_brings_all_traffic_back() -> None:
    returning, well = FakeInfer(), FakeInfer()
    pool = Pool(returning, well)
    pool.eject("a")
    pool.clock.now += 1.0
    returning.is_open.clear()
    trials = []
    while not returning.requests:
        trials.append(asyncio.create_task(pool.infer(REQUEST)))
        await settle()
    for _ in range(20):
        await pool.infer(REQUEST)
    assert len(returning.requests) == 1
    returning.is_open.set()
    await asyncio.gather(*trials)
    assert not pool.endpoints[0].outlier.on_probation


async def test_the_only_endpoint_is_asked_though_it_is_ejected_and_its_first_answer_ends_that() -> None:
    backend = FakeInfer(*[EndpointFailed("it broke")] * 10, lambda _: (SUM,))
    pool = Pool(backend)
    await pool.fail(10)
    assert (pool.gauge("available_ratio"), pool.gauge("ejections_total")) == (0, 1)
    assert pool.infer.is_ready()
    await pool.infer(REQUEST)
    assert pool.gauge("available_ratio") == 1


async def test_what_was_sent_before_an_ejection_neither_ends_nor_renews_it() -> None:
    backend = hanging()
    pool = Pool(backend)
    sent_before = [asyncio.create_task(pool.infer(REQUEST)) for _ in range(2)]
    await settle()
    pool.clock.now += 0.5
    pool.eject("a")
    backend.is_open.set()
    await asyncio.gather(*sent_before)
    assert pool.endpoints[0].outlier.on_probation


async def test_unavailable_says_of_each_endpoint_why() -> None:
    pool = Pool(FakeInfer(), FakeInfer(), FakeInfer())
    pool.endpoints[0].is_ready = False
    pool.endpoints[1].is_draining = True
    with pytest.raises(Unavailable) as caught:
        await pool.infer(REQUEST.without("c"))
    assert str(caught.value).endswith("no endpoint is left: a (not ready), b (draining), c (failed)")


async def test_an_endpoint_that_joins_takes_requests() -> None:
    pool = Pool()
    with pytest.raises(Unavailable, match="the pool is empty"):
        await pool.infer(REQUEST)
    pool.infer.add(Endpoint("d", "fake", FakeInfer(), is_ready=True))
    assert (await pool.infer(REQUEST)).endpoint == "d"
    assert pool.gauge("available_ratio", "d") == 1


async def test_the_metrics_tell_of_a_drain_and_of_the_load_that_is_compared() -> None:
    pool = Pool()
    endpoint = Endpoint("d", "fake", FakeInfer(), is_ready=True)
    endpoint.latency.observe(0.25, pool.clock.now)
    pool.infer.add(endpoint)
    assert (pool.gauge("draining_ratio", "d"), pool.gauge("load", "d")) == (0, 0.5)
    endpoint.is_draining, endpoint.in_flight = True, 2
    assert (pool.gauge("draining_ratio", "d"), pool.gauge("load", "d")) == (1, 1.5)
    assert pool.gauge("available_ratio", "d") == 0
    pool.infer.remove("d")
    assert (pool.gauge("draining_ratio", "d"), pool.gauge("load", "d")) == (None, None)


async def test_an_endpoint_that_leaves_gets_no_more_and_finishes_what_is_in_flight() -> None:
    leaving, staying = hanging(), FakeInfer()
    pool = Pool(leaving, staying)
    in_flight = asyncio.create_task(pool.infer(REQUEST.without("b")))
    await settle()
    removed = pool.infer.remove("a")
    for _ in range(10):
        await pool.infer(REQUEST)
    assert (removed.in_flight, len(leaving.requests)) == (1, 1)
    leaving.is_open.set()
    assert (await in_flight).endpoint == "a"
    assert removed.in_flight == 0


async def test_the_series_of_an_endpoint_that_has_left_are_gone_and_stay_so() -> None:
    leaving = FakeInfer(EndpointFailed("it broke"))
    leaving.is_open.clear()
    pool = Pool(leaving, FakeInfer())
    in_flight = [asyncio.create_task(pool.infer(REQUEST.without("b"))) for _ in range(3)]
    await settle()
    pool.infer.remove("a")
    leaving.is_open.set()
    await asyncio.gather(*in_flight, return_exceptions=True)
    assert pool.attempts("EndpointFailed") == 3
    assert 'endpoint="a"' not in generate_latest(pool.registry).decode()


@pytest.mark.parametrize("act", [lambda pool: pool.remove("z"), lambda pool: pool.add(pool.endpoints[0])])
def test_only_what_is_in_the_pool_can_leave_it_and_only_what_is_not_join(
    act: Callable[[Balancer], object],
) -> None:
    with pytest.raises(ValueError, match="in the pool"):
        act(Pool(FakeInfer()).infer)


async def test_a_pool_is_ready_while_any_endpoint_takes_traffic() -> None:
    pool = Pool(FakeInfer(), FakeInfer())
    pool.endpoints[0].is_ready = False
    assert pool.infer.is_ready()
    pool.endpoints[1].is_ready = False
    assert not pool.infer.is_ready()
    assert (pool.gauge("available_ratio", "a"), pool.gauge("available_ratio", "b")) == (0, 0)


async def test_a_fast_failure_does_not_look_like_a_fast_endpoint() -> None:
    pool = Pool(FakeInfer(EndpointFailed("it broke")))
    pool.endpoints[0].latency.observe(0.5, pool.clock.now)
    await pool.fail(1)
    assert pool.endpoints[0].latency.at(pool.clock.now) == 0.5


async def test_what_was_given_up_after_a_long_wait_looks_at_least_so_slow() -> None:
    pool = Pool(hanging())
    task = asyncio.create_task(pool.infer(REQUEST))
    await settle()
    pool.clock.now += 2.0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.endpoints[0].latency.at(pool.clock.now) == 2.0


async def test_a_hedge_that_lost_does_not_make_its_endpoint_look_slow() -> None:
    pool = Pool(hanging())
    for _ in range(10):
        task = asyncio.create_task(pool.infer(a_request(picked=["b"])))
        await settle()
        pool.clock.now += 0.002
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert pool.endpoints[0].latency.at(pool.clock.now) == pytest.approx(0.002)
    assert pool.endpoints[0].outlier.is_suspect


async def test_the_latency_of_an_answer_is_that_of_its_attempt() -> None:
    def take_half_a_second(_: InferRequest) -> tuple[Tensor, ...]:
        pool.clock.now += 0.5
        return (SUM,)

    pool = Pool(FakeInfer(take_half_a_second))
    await pool.infer(REQUEST)
    assert pool.endpoints[0].latency.at(pool.clock.now) == 0.5
