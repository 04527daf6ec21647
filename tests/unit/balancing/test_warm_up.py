"""Warm-up: what an endpoint must answer before it takes traffic."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import pytest

from gateway.balancing import warm_up as warm_up_module
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.outlier import GIVEN_UP_TO_SUSPECT
from gateway.balancing.warm_up import WARM_UP_REQUESTS, WarmUp, has_settled
from gateway.errors import EndpointBusy
from gateway.inference import PoolKey, Tensor
from tests.fakes import VALUES, FakeInfer, a_failure

POOL = PoolKey("adder", "1", "fp32")
EXAMPLES = {"adder": (VALUES,)}


def warm_up(
    examples: Mapping[str, Sequence[Tensor]] = EXAMPLES,
    timeout_seconds: float = 1.0,
    pause_ratio: float = 0.0,
) -> WarmUp:
    return WarmUp(
        examples,
        timeout_seconds=timeout_seconds,
        attempt_timeout_seconds=timeout_seconds,
        pause_ratio=pause_ratio,
    )


async def test_the_example_is_sent_to_the_pools_version_and_variant() -> None:
    backend = FakeInfer()
    assert await warm_up()(POOL, Endpoint("a", "fake", backend))
    assert len(backend.requests) == WARM_UP_REQUESTS
    assert {request.pool for request in backend.requests} == {POOL}
    assert backend.requests[0].inputs == (VALUES,)


async def test_after_each_answer_but_the_last_the_server_has_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = paused(monkeypatch)
    backend = FakeInfer()
    assert await warm_up(pause_ratio=1.0)(POOL, Endpoint("a", "fake", backend))
    assert len(pauses) == len(backend.requests) - 1
    assert all(seconds > 0 for seconds in pauses)


@pytest.mark.parametrize(
    ("took", "settled_after"),
    [
        ([0.01] * 32, 8),
        ([1.0, 0.01] + [0.01] * 30, 8),  # one slow answer is not slow to warm up
        ([1.0] * 4 + [0.01] * 28, 11),
        ([1.0] * 8 + [0.01] * 24, 8),
        ([0.5 * 0.9**n for n in range(32)], 0),  # a compiler that goes on and on
        ([0.01, 0.03] * 16, 8),
        ([0.01] * 7, 0),
    ],
)
def test_a_warm_up_has_settled_once_answers_get_no_faster(took: list[float], settled_after: int) -> None:
    settled = [count for count in range(1, len(took) + 1) if has_settled(took[:count])]
    assert (settled[0] if settled else 0) == settled_after


async def test_a_warm_up_beside_others_ends_once_it_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up_module, "has_settled", lambda took: len(took) == 11)
    for pause_ratio, asked in ((0.1, 11), (0.0, WARM_UP_REQUESTS)):
        backend = FakeInfer()
        assert await warm_up(pause_ratio=pause_ratio)(POOL, Endpoint("a", "fake", backend))
        assert len(backend.requests) == asked


async def test_pauses_take_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = paused(monkeypatch)
    assert await warm_up(timeout_seconds=1e-4, pause_ratio=9.0)(POOL, Endpoint("a", "fake", FakeInfer()))
    assert 0 < sum(pauses) <= 1.01e-5


def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that will be asked for; none is made."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    return pauses


async def test_the_last_answers_tell_how_fast_the_endpoint_is() -> None:
    endpoint = Endpoint("a", "fake", FakeInfer())
    endpoint.latency.observe(9.0, time.monotonic())
    assert await warm_up()(POOL, endpoint)
    assert 0 < endpoint.latency.at(time.monotonic()) < 1.0


async def test_a_model_without_an_example_is_ready_as_it_is() -> None:
    backend = FakeInfer()
    endpoint = Endpoint("a", "fake", backend)
    endpoint.latency.observe(9.0, time.monotonic())  # what was in flight when it was lost ended so late
    assert await warm_up({})(POOL, endpoint)
    assert backend.requests == []
    assert endpoint.latency.at(time.monotonic()) == 0


async def test_an_endpoint_that_fails_its_example_is_not_ready() -> None:
    assert not await warm_up()(POOL, Endpoint("a", "fake", FakeInfer(a_failure())))


async def test_an_endpoint_that_hangs_in_its_example_is_not_ready() -> None:
    backend = FakeInfer()
    backend.is_open.clear()
    assert not await warm_up(timeout_seconds=0.001)(POOL, Endpoint("a", "fake", backend))
    assert backend.cancelled == 1


async def test_an_endpoint_that_is_warm_starts_without_its_past() -> None:
    endpoint = Endpoint("a", "fake", FakeInfer())
    for _ in range(3):
        endpoint.outlier.failed(1000.0)
    assert await warm_up()(POOL, endpoint)
    assert not endpoint.outlier.is_suspect
    assert not endpoint.outlier.is_ejected(1000.0)


@pytest.mark.parametrize(
    ("infer", "expected"),
    [(FakeInfer(), True), (FakeInfer(EndpointBusy("full")), True), (FakeInfer(a_failure()), False)],
    ids=["well", "busy", "broken"],
)
async def test_one_that_has_failed_is_asked_once_and_what_it_did_is_not_forgotten(
    infer: FakeInfer, *, expected: bool
) -> None:
    endpoint = Endpoint("a", "fake", infer)
    endpoint.outlier.failed(1000.0)
    assert await warm_up().still_answers(POOL, endpoint) is expected
    assert len(infer.requests) == 1
    assert endpoint.outlier.is_suspect


async def test_one_that_hangs_answers_no_longer() -> None:
    backend = FakeInfer()
    backend.is_open.clear()
    assert not await warm_up(timeout_seconds=0.001).still_answers(POOL, Endpoint("a", "fake", backend))
    assert await warm_up({}).still_answers(POOL, Endpoint("a", "fake", backend))


async def test_one_that_nobody_waited_for_is_suspect_no_longer_once_it_answers() -> None:
    endpoint = Endpoint("a", "fake", FakeInfer())
    for _ in range(GIVEN_UP_TO_SUSPECT):
        endpoint.outlier.gave_up()
    assert await warm_up().still_answers(POOL, endpoint)
    assert not endpoint.outlier.is_suspect
