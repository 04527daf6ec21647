"""Warm-up: what an endpoint must answer before it takes traffic."""

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.warm_up import WARM_UP_REQUESTS, WarmUp
from gateway.inference import PoolKey
from tests.fakes import VALUES, FakeInfer, a_failure

POOL = PoolKey("adder", "1", "fp32")
EXAMPLES = {"adder": (VALUES,)}


async def test_the_example_is_sent_to_the_pools_version_and_variant() -> None:
    backend = FakeInfer()
    assert await WarmUp(EXAMPLES, timeout_seconds=1.0)(POOL, Endpoint("a", "fake", backend))
    assert len(backend.requests) == WARM_UP_REQUESTS
    assert {request.pool for request in backend.requests} == {POOL}
    assert backend.requests[0].inputs == (VALUES,)


async def test_a_model_without_an_example_is_ready_as_it_is() -> None:
    backend = FakeInfer()
    assert await WarmUp({}, timeout_seconds=1.0)(POOL, Endpoint("a", "fake", backend))
    assert backend.requests == []


async def test_an_endpoint_that_fails_its_example_is_not_ready() -> None:
    assert not await WarmUp(EXAMPLES, timeout_seconds=1.0)(
        POOL, Endpoint("a", "fake", FakeInfer(a_failure()))
    )


async def test_an_endpoint_that_hangs_in_its_example_is_not_ready() -> None:
    backend = FakeInfer()
    backend.is_open.clear()
    assert not await WarmUp(EXAMPLES, timeout_seconds=0.001)(POOL, Endpoint("a", "fake", backend))
    assert backend.cancelled == 1
