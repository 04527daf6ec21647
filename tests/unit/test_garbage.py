"""A request that fails leaves nothing behind: no cycle that keeps its tensors until the collector comes.

The collector counts objects, not bytes, and the gateway lets it come rarely: cycles of a few objects that
hold 64 MiB each would fill the memory long before.
"""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.retry_budget import RetryBudget
from gateway.chain import Infer, chain
from gateway.errors import EndpointFailed, InferwayError, MalformedBody, RejectedByBackend
from gateway.inference import InferRequest, PoolKey
from gateway.metrics import Metrics
from gateway.protocols.edge import in_thread
from gateway.stages.retry import Retry
from gateway.stages.single_flight import SingleFlight
from tests.fakes import FakeInfer, a_contract, a_request


@contextmanager
def uncollected() -> Iterator[list[Any]]:
    """What the collector finds that the block has left to it."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def pool(*infers: FakeInfer) -> Infer:
    """SingleFlight, Retry and a Balancer with a short timeout over these."""
    metrics = Metrics(CollectorRegistry())
    endpoints = [Endpoint(str(place), "fake", infer, is_ready=True) for place, infer in enumerate(infers)]
    balancer = Balancer(
        endpoints,
        pool=PoolKey("adder", "1", "fp32"),
        attempt_timeout_seconds=0.01,
        metrics=metrics,
        rng=Random(7),  # noqa: S311
    )

    def retry(call_next: Infer) -> Infer:
        return Retry(
            call_next,
            new_budget=lambda: RetryBudget(ratio=1, floor_per_second=100),
            max_attempts=2,
            metrics=metrics,
        )

    def single_flight(call_next: Infer) -> Infer:
        return SingleFlight(call_next, contracts={"adder": a_contract()}, metrics=metrics)

    return chain(single_flight, retry, to=balancer)


@pytest.mark.parametrize("failure", [EndpointFailed("broken"), RejectedByBackend("wrong"), None])
@pytest.mark.parametrize("left_seconds", [10.0, 0.002, -1.0])
async def test_a_failed_requests_tensors_are_gone_with_its_error(
    failure: Exception | None, left_seconds: float
) -> None:
    def fake() -> FakeInfer:
        infer = FakeInfer(*([type(failure)(str(failure))] if failure else []))
        if failure is None:
            infer.is_open.clear()  # it hangs
        return infer

    infers = [fake(), fake()]
    infer = pool(*infers)
    with uncollected() as found:
        request = a_request(key=b"k", deadline=time.monotonic() + left_seconds)
        try:
            await infer(request)
        except InferwayError:
            pass
        else:
            raise AssertionError("it was to fail")
        for each in infers:
            each.requests.clear()
        await asyncio.sleep(0.01)
        del request
    assert [each for each in found if isinstance(each, InferRequest)] == []


class Expanded:
    """Stands for the 64 MiB that work in a thread had made when it failed."""


async def test_what_work_in_a_thread_had_made_is_gone_with_its_error() -> None:
    def work() -> None:
        made = Expanded()
        raise MalformedBody(f"of no use: {type(made).__name__}")

    with uncollected() as found:
        try:
            await in_thread(asyncio.Semaphore(1), work)
        except MalformedBody:
            pass
        else:
            raise AssertionError("it was to fail")
        await asyncio.sleep(0.01)
    assert [each for each in found if isinstance(each, Expanded)] == []
