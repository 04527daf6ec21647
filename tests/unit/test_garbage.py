"""A request that fails leaves nothing behind: no cycle that keeps its tensors until the collector comes.

The collector counts objects, not bytes, and the gateway lets it come rarely: cycles of a few objects that
hold 64 MiB each would fill the memory long before.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.admission.gate import Gate, GateRules
from gateway.admission.limit import LimitRules
from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.latency_quantile import LatencyQuantile
from gateway.balancing.retry_budget import RetryBudget
from gateway.chain import Infer, chain
from gateway.errors import EndpointFailed, InferwayError, MalformedBody, RejectedByBackend
from gateway.inference import InferRequest, PoolKey, Tensor
from gateway.metrics import Metrics
from gateway.protocols.at_once import begin
from gateway.protocols.edge import in_thread
from gateway.stages.admission import Admission
from gateway.stages.hedged import QUANTILE, Hedged
from gateway.stages.retry import Retry
from gateway.stages.single_flight import SingleFlight
from tests.fakes import FakeInfer, a_contract, a_request, settle, until


@pytest.fixture(scope="module", autouse=True)
def _earlier_is_not_walked() -> None:
    """Keep from the collector what other tests have left: none of it is of a request here."""
    gc.collect()
    gc.freeze()


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
            budget_of=lambda _: RetryBudget(ratio=1, floor_per_second=100),
            max_attempts=2,
            metrics=metrics,
        )

    def single_flight(call_next: Infer) -> Infer:
        return SingleFlight(call_next, contracts={"adder": a_contract()}, metrics=metrics)

    return chain(single_flight, partial(admission, limit=1024), retry, to=balancer)


def admission(call_next: Infer, *, limit: int, queue: int = 10) -> Infer:
    """An Admission in front of the pool of `a_request`."""
    rules = GateRules(LimitRules(limit, limit), queue)
    pools = (PoolKey("adder", "", ""), PoolKey("adder", "1", "fp32"))
    return Admission(
        call_next,
        gates={pool: Gate(rules) for pool in pools},
        default_priority=5,
        metrics=Metrics(CollectorRegistry()),
    )


@pytest.mark.parametrize(("queue", "left_seconds"), [(0, 10.0), (10, 0.01), (10, -1.0)])
async def test_the_tensors_of_what_was_shed_are_gone_with_its_error(queue: int, left_seconds: float) -> None:
    infer = FakeInfer()
    infer.is_open.clear()
    admitted = admission(infer, limit=1, queue=queue)

    async def ask(left_seconds: float) -> None:
        with contextlib.suppress(InferwayError):
            await admitted(a_request(deadline=time.monotonic() + left_seconds))
            raise AssertionError("it was to fail")

    busy = asyncio.ensure_future(admitted(a_request()))
    await asyncio.sleep(0)
    with uncollected() as found:
        await asyncio.create_task(ask(left_seconds))
        await asyncio.sleep(0.01)
    busy.cancel()
    assert [each for each in found if isinstance(each, InferRequest)] == []


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


@pytest.mark.parametrize("order", ["ab", "ba", "b", "a", ""])
@pytest.mark.parametrize("answer", [EndpointFailed("broken"), RejectedByBackend("wrong"), None])
async def test_a_hedged_requests_tensors_are_gone_whoever_wins(order: str, answer: Exception | None) -> None:
    def fake() -> FakeInfer:
        def fresh(_: InferRequest) -> tuple[Tensor, ...]:
            if answer is not None:
                raise type(answer)(str(answer))  # one that the fake does not keep
            return ()

        infer = FakeInfer(fresh)
        infer.is_open.clear()
        return infer

    infers = {"a": fake(), "b": fake()}
    metrics = Metrics(CollectorRegistry())
    key = PoolKey("adder", "1", "fp32")
    balancer = Balancer(
        [Endpoint(name, "fake", infer, is_ready=True) for name, infer in infers.items()],
        pool=key,
        attempt_timeout_seconds=0.05,
        metrics=metrics,
        rng=Random(7),  # noqa: S311
    )
    infer = Hedged(
        balancer,
        pools={key: balancer},
        latencies={key: LatencyQuantile(QUANTILE)},
        new_budget=lambda: RetryBudget(ratio=0, floor_per_second=100),
        metrics=metrics,
    )
    for _ in range(100):
        infer._pools[key].latency.observe(0.001, time.monotonic())
    with uncollected() as found:
        task = asyncio.ensure_future(infer(a_request(version="1", variant="fp32")))
        await until(lambda: all(each.requests for each in infers.values()))
        for name in order:
            infers[name].is_open.set()
            await settle()
        await asyncio.wait((task,))
        task.exception()  # else it is logged, and the log keeps it
        del task
        for each in infers.values():
            each.requests.clear()
        await asyncio.sleep(0.01)
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


async def test_a_request_that_began_without_a_task_leaves_nothing_of_the_failure_that_it_waited_for() -> None:
    futures: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future()]

    async def work() -> None:
        with contextlib.suppress(MalformedBody):
            await futures[0]

    with uncollected() as found:
        began: list[asyncio.Task[None] | None] = []
        asyncio.get_running_loop().call_soon(lambda: began.append(begin(work())))  # as a connection does
        await settle()
        futures.pop().set_exception(MalformedBody("no"))
        await settle()
        task = began.pop()
        assert task is not None
        assert task.done()
        del task
    assert found == []
