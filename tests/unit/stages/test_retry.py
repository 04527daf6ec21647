"""Retry: what failed at one endpoint is tried at another, within deadline and budget."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from gateway.balancing.retry_budget import RetryBudget
from gateway.errors import (
    DeadlineExceeded,
    EndpointUnreachable,
    InferwayError,
    InvalidTensor,
    RejectedByBackend,
    Unavailable,
)
from gateway.inference import InferRequest, InferResponse
from gateway.metrics import Metrics
from gateway.stages.retry import Retry
from tests.fakes import SUM, FakeClock, a_failure, a_request


def unreachable(endpoint: str) -> EndpointUnreachable:
    failure = EndpointUnreachable("connection refused")
    failure.endpoint = endpoint
    return failure


class FailingPool:
    """A pool of endpoints `a`, `b`, ... of which the first one that a request may still ask fails it.

    Args:
        failures: what each of them raises, by name; any other endpoint answers.
    """

    def __init__(self, **failures: InferwayError) -> None:
        self.failures = failures
        self.requests: list[InferRequest] = []
        self.before_each: Callable[[], None] = lambda: None

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        self.requests.append(request)
        self.before_each()
        for endpoint in "abcdefgh":
            if endpoint not in request.excluded:
                if endpoint in self.failures:
                    raise self.failures[endpoint]
                return InferResponse(request.model, "1", (SUM,), endpoint=endpoint)
        raise AssertionError("asked everywhere")


class Rig:
    """A Retry over a pool."""

    def __init__(self, pool: FailingPool, *, max_attempts: int = 4, retries: int = 100) -> None:
        self.pool = pool
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.infer = Retry(
            pool,
            budget_of=lambda _: RetryBudget(ratio=0, floor_per_second=retries),
            max_attempts=max_attempts,
            metrics=Metrics(self.registry),
            clock=self.clock,
        )

    def retries(self, result: str) -> float:
        labels = {"model": "adder", "result": result}
        return self.registry.get_sample_value("gateway_retries_total", labels) or 0.0


def failing(*endpoints: str) -> FailingPool:
    return FailingPool(**{name: a_failure(f"{name} broke", endpoint=name) for name in endpoints})


async def test_an_answer_at_the_first_attempt_costs_no_retry() -> None:
    rig = Rig(failing())
    assert (await rig.infer(a_request())).endpoint == "a"
    assert rig.retries("sent") == 0


async def test_what_failed_at_one_endpoint_is_answered_by_another() -> None:
    rig = Rig(failing("a", "b"))
    assert (await rig.infer(a_request())).endpoint == "c"
    assert rig.retries("sent") == 2


async def test_no_endpoint_is_asked_twice() -> None:
    rig = Rig(failing("a", "b", "c"))
    await rig.infer(a_request())
    assert [set(request.excluded) for request in rig.pool.requests] == [
        set(),
        {"a"},
        {"a", "b"},
        {"a", "b", "c"},
    ]


async def test_neither_endpoint_of_a_hedged_attempt_is_asked_again() -> None:
    rig = Rig(failing("a"))
    rig.pool.failures["a"].hedged_at = "b"  # type: ignore[attr-defined]
    assert (await rig.infer(a_request())).endpoint == "c"


async def test_nothing_but_the_excluded_endpoints_changes_between_attempts() -> None:
    request = a_request(id="7", key=b"k", version="1", deadline=2000.0)
    rig = Rig(failing("a"))
    await rig.infer(request)
    assert rig.pool.requests == [request, request.without("a")]


async def test_after_the_last_attempt_it_is_unavailable_with_the_last_failure() -> None:
    rig = Rig(failing("a", "b", "c", "d", "e"), max_attempts=3)
    with pytest.raises(Unavailable, match="model 'adder': 3 attempts failed, the last: c broke"):
        await rig.infer(a_request())
    assert len(rig.pool.requests) == 3


async def test_one_attempt_means_no_retry() -> None:
    rig = Rig(failing("a"), max_attempts=1)
    with pytest.raises(Unavailable, match="1 attempt failed, the last: a broke"):
        await rig.infer(a_request())
    assert (rig.retries("sent"), rig.retries("refused")) == (0, 0)


@pytest.mark.parametrize(
    "error",
    [InvalidTensor("t", expected="x", got="y"), RejectedByBackend("no digit"), DeadlineExceeded("late")],
)
async def test_what_another_endpoint_would_say_too_is_not_retried(error: InferwayError) -> None:
    rig = Rig(FailingPool(a=error))
    with pytest.raises(type(error)):
        await rig.infer(a_request())
    assert len(rig.pool.requests) == 1


async def test_a_pool_without_any_endpoint_is_told_as_it_is() -> None:
    error = Unavailable("nobody is left", retry_after_seconds=7)
    rig = Rig(FailingPool(a=error))
    with pytest.raises(Unavailable) as caught:
        await rig.infer(a_request())
    assert caught.value is error


async def test_when_nobody_is_left_for_the_retry_the_real_failure_is_told_and_when_to_come_back() -> None:
    nobody = Unavailable("nobody is left", retry_after_seconds=7)
    rig = Rig(FailingPool(a=a_failure("a broke"), b=nobody))
    with pytest.raises(Unavailable, match="1 attempt failed, the last: a broke") as caught:
        await rig.infer(a_request())
    assert caught.value.retry_after_seconds == 7


async def test_after_the_deadline_nothing_is_retried_and_the_deadline_is_what_is_told() -> None:
    rig = Rig(failing("a"))

    def take_two_seconds() -> None:
        rig.clock.now += 2

    rig.pool.before_each = take_two_seconds
    with pytest.raises(DeadlineExceeded, match=r"model 'adder': .*a broke"):
        await rig.infer(a_request(deadline=rig.clock.now + 1))
    assert len(rig.pool.requests) == 1
    assert (rig.retries("sent"), rig.retries("refused")) == (0, 0)


async def test_without_budget_the_first_failure_is_told_and_the_refusal_counted() -> None:
    rig = Rig(failing("a"), retries=0)
    with pytest.raises(Unavailable, match="1 attempt failed, the last: a broke"):
        await rig.infer(a_request())
    assert len(rig.pool.requests) == 1
    assert (rig.retries("sent"), rig.retries("refused")) == (0, 1)


async def test_a_budget_spent_midway_ends_with_the_last_failure() -> None:
    rig = Rig(failing("a", "b", "c"), retries=1)
    with pytest.raises(Unavailable, match="2 attempts failed, the last: b broke"):
        await rig.infer(a_request())


async def test_attempts_that_were_never_sent_cost_no_budget() -> None:
    rig = Rig(FailingPool(a=unreachable("a"), b=unreachable("b")), retries=0)
    assert (await rig.infer(a_request())).endpoint == "c"
    assert rig.retries("sent") == 2


async def test_attempts_that_were_never_sent_end_too() -> None:
    rig = Rig(FailingPool(**{name: unreachable(name) for name in "abcdefgh"}), retries=0)
    with pytest.raises(Unavailable, match="4 attempts failed, the last: connection refused"):
        await rig.infer(a_request())
    assert len(rig.pool.requests) == 4


@pytest.mark.parametrize(("requests", "ratio"), [(100, 0.1), (100, 0.5)])
async def test_when_everything_fails_the_calls_stay_within_the_budget(requests: int, ratio: float) -> None:
    rig = Rig(failing(*"abcdefgh"))
    rig.infer = Retry(
        rig.pool,
        budget_of=lambda _: RetryBudget(ratio=ratio, floor_per_second=0),
        max_attempts=8,
        metrics=Metrics(CollectorRegistry()),
        clock=rig.clock,
    )
    for _ in range(requests):
        with pytest.raises(Unavailable):
            await rig.infer(a_request())
    assert requests < len(rig.pool.requests) <= (1 + ratio) * requests


async def test_a_request_pays_into_the_budget_once_however_often_it_is_tried() -> None:
    class Counting(RetryBudget):
        deposits = 0

        def deposit(self, now: float) -> None:
            super().deposit(now)
            self.deposits += 1

    rig = Rig(failing("a", "b"))
    budget = Counting(ratio=0, floor_per_second=10)
    metrics = Metrics(CollectorRegistry())
    await Retry(rig.pool, budget_of=lambda _: budget, max_attempts=4, metrics=metrics, clock=rig.clock)(
        a_request()
    )
    assert budget.deposits == 1


async def test_a_failure_that_says_it_is_not_to_be_retried_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndpointUnreachable, "retryable", False)
    rig = Rig(FailingPool(a=unreachable("a")))
    with pytest.raises(Unavailable, match="1 attempt failed, the last: connection refused"):
        await rig.infer(a_request())
    assert len(rig.pool.requests) == 1


async def test_what_was_not_expected_is_not_retried() -> None:
    class Broken(FailingPool):
        async def __call__(self, request: InferRequest, /) -> InferResponse:
            self.requests.append(request)
            raise ZeroDivisionError

    rig = Rig(Broken())
    with pytest.raises(ZeroDivisionError):
        await rig.infer(a_request())
    assert len(rig.pool.requests) == 1


async def test_a_pool_that_dies_spends_nothing_of_another_pools_budget() -> None:
    rig = Rig(failing("a"), retries=1)
    for variant in ("fp32", "int8"):
        request = a_request(version="1", variant=variant)
        assert (await rig.infer(request)).endpoint == "b"
        with pytest.raises(Unavailable):
            await rig.infer(request)


async def test_what_is_counted_is_shown_as_0_before_it_happens() -> None:
    rig = Rig(FailingPool())
    await rig.infer(a_request())
    name = "gateway_retries_total"
    for result in ("sent", "refused"):
        assert rig.registry.get_sample_value(name, {"model": a_request().model, "result": result}) == 0
