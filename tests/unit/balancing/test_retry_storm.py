"""A retry storm cannot be provoked: Retry over Balancer, with every endpoint failing."""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from gateway.balancing import least_in_flight, p2c, round_robin
from gateway.balancing.balancer import Balancer, Policy
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.retry_budget import WINDOW_SECONDS, RetryBudget
from gateway.chain import chain
from gateway.errors import EndpointFailed, Unavailable
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.stages.retry import Retry
from tests.fakes import SUM, Answer, FakeClock, FakeInfer, a_request

RATIO, FLOOR_PER_SECOND = 0.2, 10.0
REQUEST = a_request(version="1", variant="fp32")
FAILURE = EndpointFailed("it broke")


class Chain:
    """Retry over a Balancer over fakes, all ready, and a clock that each request moves on."""

    def __init__(self, *infers: FakeInfer, policy: Policy = p2c.pick) -> None:
        self.infers, self.clock = infers, FakeClock()
        metrics = Metrics(CollectorRegistry())
        balancer = Balancer(
            [Endpoint(str(place), "fake", infer, is_ready=True) for place, infer in enumerate(infers)],
            pool=PoolKey("adder", "1", "fp32"),
            attempt_timeout_seconds=60.0,
            metrics=metrics,
            policy=policy,
            clock=self.clock,
            rng=Random(7),  # noqa: S311
        )
        budget = RetryBudget(ratio=RATIO, floor_per_second=FLOOR_PER_SECOND)
        retry = partial(Retry, budget_of=lambda _: budget, max_attempts=4, metrics=metrics, clock=self.clock)
        self.infer = chain(retry, to=balancer)

    async def send(self, requests: int, *, per_second: float) -> int:
        """Send so many, one after another; how many failed."""
        failed = 0
        for _ in range(requests):
            self.clock.now += 1 / per_second
            try:
                await self.infer(REQUEST)
            except Unavailable:
                failed += 1
        return failed

    @property
    def calls(self) -> int:
        return sum(len(infer.requests) for infer in self.infers)


@pytest.mark.parametrize("policy", [p2c.pick, least_in_flight.pick, round_robin.pick])
@pytest.mark.parametrize("per_second", [5.0, 200.0])
async def test_with_all_failing_the_calls_are_the_requests_and_what_the_budget_pays(
    per_second: float, policy: Policy
) -> None:
    storm = Chain(*(FakeInfer(FAILURE) for _ in range(4)), policy=policy)
    requests, seconds = 3000, 3000 / per_second
    assert await storm.send(requests, per_second=per_second) == requests
    # The floor of the window before the storm has been saved up.
    assert storm.calls <= (1 + RATIO) * requests + FLOOR_PER_SECOND * (seconds + WINDOW_SECONDS)
    assert storm.calls >= requests


async def test_a_pool_of_one_sends_every_request_once() -> None:
    storm = Chain(FakeInfer(FAILURE))
    await storm.send(1000, per_second=100.0)
    assert storm.calls == 1000


def failing_from(start: int, end: int) -> Callable[[], FakeInfer]:
    """Fails from one call to another, and answers before and after."""
    answer: Answer = lambda _: (SUM,)  # noqa: E731
    return lambda: FakeInfer(*[answer] * start, *[FAILURE] * (end - start), answer)


async def test_when_all_have_failed_one_that_answers_again_gets_the_traffic_at_once() -> None:
    pool = Chain(*(failing_from(0, calls)() for calls in (200, 500, 500)))
    failed = await pool.send(3000, per_second=100.0)
    assert failed <= 600
    assert await pool.send(1000, per_second=100.0) == 0


async def test_one_well_endpoint_of_four_keeps_every_request_from_failing() -> None:
    pool = Chain(FakeInfer(), *(FakeInfer(FAILURE) for _ in range(3)))
    assert await pool.send(3000, per_second=500.0) == 0


async def test_an_endpoint_that_was_ejected_for_a_moment_saves_what_fails_at_the_others() -> None:
    blip, dying = failing_from(100, 103)(), failing_from(200, 10_000)()
    assert await Chain(blip, dying).send(3000, per_second=500.0) == 0
