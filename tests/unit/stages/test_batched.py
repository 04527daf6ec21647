"""Batched: what waits for a busy pool is sent as one, and everybody gets what is theirs."""

import asyncio
import gc
import math
import time
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.retry_budget import RetryBudget
from gateway.batching.fair_queue import Item
from gateway.batching.joining import Joining
from gateway.batching.size_limit import SizeLimit
from gateway.batching.waiting import Batch
from gateway.errors import (
    DeadlineExceeded,
    EndpointFailed,
    InferwayError,
    ModelFailed,
    RejectedByBackend,
    Unavailable,
)
from gateway.inference import InferRequest, InferResponse, PoolKey, Tensor
from gateway.keys.key import CALLER, Key
from gateway.metrics import Metrics
from gateway.stages.batched import Batched
from tests.fakes import FakeClock, FakeInfer, a_contract, a_request, settle

BAD = 99
"""A value that the fake engine refuses."""


def row(value: int, **changes: Any) -> InferRequest:
    values = Tensor("values", "INT8", (1, 2), bytes([value, 1]))
    return a_request(version="1", variant="fp32", inputs=(values,), **changes)


def sums(request: InferRequest) -> tuple[Tensor, ...]:
    """What `a_contract`'s model makes of each row."""
    (values,) = request.inputs
    data = bytes(values.data[i] + values.data[i + 1] for i in range(0, len(values.data), 2))
    return (Tensor("sum", "INT8", (values.shape[0], 1), data),)


def refusing(error: InferwayError) -> FakeInfer:
    """An engine that refuses a batch with `BAD` in it."""

    def answer(request: InferRequest) -> tuple[Tensor, ...]:
        if BAD in bytes(request.inputs[0].data):
            raise type(error)(*error.args)
        return sums(request)

    return FakeInfer(answer)


class Rig:
    """A Batched over a Balancer; engines answer once `open` is called.

    Args:
        engines: of the endpoints `a`, `b`, ...
        budget: how many requests may be sent again.
        options: of Batched.
    """

    def __init__(self, *engines: FakeInfer, budget: int = 100, instances: int = 1, **options: Any) -> None:
        self.engines = engines or (FakeInfer(sums),)
        self.clock = options.get("clock", time.monotonic)
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.endpoints = [
            Endpoint(name, "fake", engine, is_ready=True, instances=instances)
            for name, engine in zip("abc", self.engines, strict=False)
        ]
        self.balancer = Balancer(
            self.endpoints,
            pool=PoolKey("adder", "1", "fp32"),
            attempt_timeout_seconds=60,
            metrics=metrics,
            clock=self.clock,
            rng=Random(7),  # noqa: S311
        )
        self.size_limit = SizeLimit(options.pop("max_rows", 4), 0.1)
        self.infer = Batched(
            self.balancer,
            model="adder",
            idle_instances=self.balancer.idle_instances,
            joining=Joining(a_contract()),
            size_limit=self.size_limit,
            budget=RetryBudget(ratio=0, floor_per_second=budget),
            metrics=metrics,
            **{"max_bytes": 1000, **options},
        )

    def close(self) -> None:
        for engine in self.engines:
            engine.is_open.clear()

    def open(self) -> None:
        for engine in self.engines:
            engine.is_open.set()

    async def busy(self) -> "list[asyncio.Task[InferResponse]]":
        """Requests that keep the first endpoint at work, with one that waits for its turn there."""
        self.close()
        return [await self.ask(row(50 + i)) for i in range(2)]

    async def ask(self, request: InferRequest) -> "asyncio.Task[InferResponse]":
        task = asyncio.create_task(self.infer(request))
        await settle()
        return task

    def sizes(self) -> list[int]:
        """Rows of every call to the engines, in order."""
        return [request.inputs[0].shape[0] for engine in self.engines for request in engine.requests]

    def closed(self) -> dict[str, float]:
        samples = next(m.samples for m in self.registry.collect() if m.name == "gateway_batches")
        return {s.labels["reason"]: s.value for s in samples if s.name.endswith("_total") and s.value}

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"model": "adder"})


def answer_of(task: "asyncio.Task[InferResponse]") -> int:
    (tensor,) = task.result().outputs
    assert tensor.shape == (1, 1)
    return bytes(tensor.data)[0]


async def test_a_request_to_an_idle_pool_goes_at_once_and_untouched() -> None:
    rig = Rig()
    request = row(3)
    assert (await rig.infer(request)).endpoint == "a"
    assert rig.engines[0].requests[0].inputs is request.inputs
    assert rig.closed() == {"idle": 1}


async def test_what_waits_for_a_busy_endpoint_is_one_batch_and_each_gets_its_own_answer() -> None:
    rig = Rig()
    first = await rig.busy()
    waiting = [await rig.ask(row(i)) for i in range(4)]
    assert rig.sizes() == [1, 1]
    rig.open()
    await asyncio.gather(*first, *waiting)
    assert rig.sizes() == [1, 1, 4]
    assert [answer_of(task) for task in waiting] == [1, 2, 3, 4]
    assert {task.result().endpoint for task in waiting} == {"a"}
    assert rig.closed() == {"idle": 2, "empty": 1}
    assert (rig.value("gateway_batch_requests_sum"), rig.value("gateway_batch_requests_count")) == (6, 3)


async def test_a_batch_that_was_answered_is_freed_at_once_with_its_tensors() -> None:
    rig = Rig()
    tasks = [*await rig.busy(), *[await rig.ask(row(i)) for i in range(4)]]
    gc.disable()  # it would free them, too, but later
    try:
        rig.open()
        await asyncio.gather(*tasks)
        tasks.clear()
        await settle()
        assert [kept for kept in gc.get_objects() if isinstance(kept, Batch | Item)] == []
    finally:
        gc.enable()


async def test_an_idle_endpoint_is_not_waited_for() -> None:
    rig = Rig(FakeInfer(sums), FakeInfer(sums))
    rig.close()
    tasks = [await rig.ask(row(i)) for i in range(5)]
    assert len(rig.sizes()) == 4  # one at work at each endpoint, and one that waits there
    rig.open()
    await asyncio.gather(*tasks)


async def test_an_endpoint_works_on_as_many_batches_as_it_has_instances() -> None:
    rig = Rig(instances=3)
    rig.close()
    tasks = [await rig.ask(row(i)) for i in range(6)]
    assert len(rig.sizes()) == 4
    rig.open()
    await asyncio.gather(*tasks)


async def test_a_batch_is_sent_ahead_only_when_it_is_as_large_as_those_in_flight() -> None:
    rig = Rig()
    first = await rig.busy()
    waiting = [await rig.ask(row(i)) for i in range(4)]
    engine = rig.engines[0]
    rig.open()
    await first[0]
    await settle()
    rig.close()
    await asyncio.gather(*first, *waiting)
    large = await rig.ask(a_request(version="1", variant="fp32", inputs=(_four_rows(),)))
    small = [await rig.ask(row(i)) for i in range(3)]
    assert engine.requests[-1].inputs[0].shape[0] == 4
    small.append(await rig.ask(row(4)))
    rig.open()
    await asyncio.gather(large, *small)
    assert rig.sizes()[-1] == 4
    assert [answer_of(task) for task in small] == [1, 2, 3, 5]


def _four_rows() -> Tensor:
    return Tensor("values", "INT8", (4, 2), bytes(8))


async def test_a_batch_has_no_more_rows_than_the_model_takes() -> None:
    rig = Rig(max_rows=3)
    first = await rig.busy()
    waiting = [await rig.ask(row(i)) for i in range(7)]
    rig.open()
    await asyncio.gather(*first, *waiting)
    assert rig.sizes() == [1, 1, 3, 3, 1]
    assert rig.closed() == {"idle": 2, "rows": 2, "empty": 1}


async def test_a_request_that_the_engine_refuses_fails_alone() -> None:
    rig = Rig(refusing(RejectedByBackend("bad value")))
    first = await rig.busy()
    waiting = [await rig.ask(row(value)) for value in (1, BAD, 2)]
    rig.open()
    await asyncio.wait([*first, *waiting])
    assert [answer_of(waiting[0]), answer_of(waiting[2])] == [2, 3]
    assert isinstance(waiting[1].exception(), RejectedByBackend)
    assert rig.sizes() == [1, 1, 3, 1, 1, 1]
    assert rig.value("gateway_batch_reruns_total") == 3


async def test_a_request_at_which_the_model_raises_fails_alone() -> None:
    rig = Rig(refusing(ModelFailed("index out of range")))
    first = await rig.busy()
    waiting = [await rig.ask(row(value)) for value in (1, BAD, 2)]
    rig.open()
    await asyncio.wait([*first, *waiting])
    assert [answer_of(waiting[0]), answer_of(waiting[2])] == [2, 3]
    assert isinstance(waiting[1].exception(), ModelFailed)


async def test_a_failure_of_the_endpoint_is_everybodys_and_nobody_is_sent_again_there() -> None:
    rig = Rig(FakeInfer(sums, sums, EndpointFailed("it broke")))
    first = await rig.busy()
    waiting = [await rig.ask(row(value)) for value in (1, 2)]
    rig.open()
    await asyncio.wait([*first, *waiting])
    errors = [task.exception() for task in waiting]
    assert [type(error) for error in errors] == [EndpointFailed, EndpointFailed]
    assert [getattr(error, "endpoint", "") for error in errors] == ["a", "a"]
    assert errors[0] is not errors[1]
    assert str(errors[0]) == "it broke"
    assert rig.sizes() == [1, 1, 2]


async def test_more_bad_requests_than_the_budget_covers_fail_nobody_else_and_end_joining_for_a_while() -> (
    None
):
    clock = FakeClock()
    rig = Rig(refusing(RejectedByBackend("bad value")), budget=1, clock=clock)
    first = await rig.busy()
    waiting = [await rig.ask(row(value)) for value in (1, BAD, 2)]
    rig.open()
    await asyncio.wait([*first, *waiting])
    assert [answer_of(waiting[0]), answer_of(waiting[2])] == [2, 3]
    first = await rig.busy()
    apart = [await rig.ask(row(value)) for value in (3, 4)]
    assert rig.sizes()[-4:] == [1, 1, 1, 1]  # nothing waits
    clock.now += 2.0
    later = [await rig.ask(row(value)) for value in (5, 6)]
    rig.open()
    await asyncio.gather(*first, *apart, *later)
    assert rig.sizes()[-1] == 2


async def test_requests_that_exclude_different_endpoints_do_not_join() -> None:
    rig = Rig(FakeInfer(sums), FakeInfer(sums))
    rig.close()
    busy = [await rig.ask(row(i)) for i in range(4)]
    ways: list[frozenset[str]] = [frozenset(), frozenset({"a"}), frozenset(), frozenset({"a"})]
    tasks = [await rig.ask(row(i, excluded=excluded)) for i, excluded in enumerate(ways)]
    rig.open()
    await asyncio.gather(*busy, *tasks)
    assert [answer_of(task) for task in tasks] == [1, 2, 3, 4]
    assert {task.result().endpoint for task in (tasks[1], tasks[3])} == {"b"}
    assert sorted(rig.sizes()) == [1, 1, 1, 1, 2, 2]


async def test_where_no_endpoint_is_left_nobody_waits() -> None:
    rig = Rig()
    first = await rig.busy()
    with pytest.raises(Unavailable):
        await rig.infer(row(1, excluded=frozenset({"a"})))
    rig.open()
    await asyncio.gather(*first)


async def test_who_leaves_the_queue_is_not_sent() -> None:
    rig = Rig()
    first = await rig.busy()
    waiting = [await rig.ask(row(i)) for i in range(3)]
    waiting[1].cancel()
    await settle()
    rig.open()
    await asyncio.wait([*first, *waiting])
    assert rig.sizes() == [1, 1, 2]
    assert [answer_of(waiting[0]), answer_of(waiting[2])] == [1, 3]


async def test_who_leaves_a_batch_takes_nothing_from_the_others_and_the_last_one_ends_it() -> None:
    rig = Rig()
    first = await rig.busy()
    waiting = [await rig.ask(row(i)) for i in range(2)]
    rig.open()
    await asyncio.gather(*first)
    await asyncio.gather(*waiting)
    first = await rig.busy()
    rig.close()
    waiting = [await rig.ask(row(i)) for i in range(3)]
    for task in first:
        task.cancel()
    await settle()
    assert rig.sizes()[-1] == 3
    waiting[0].cancel()
    await settle()
    cancelled = rig.engines[0].cancelled
    waiting[1].cancel()
    waiting[2].cancel()
    await settle()
    assert rig.engines[0].cancelled == cancelled + 1
    assert rig.endpoints[0].in_flight == 0
    rig.open()
    assert (await rig.infer(row(7))).endpoint == "a"


async def test_who_is_cancelled_in_the_moment_of_its_deadline_takes_nobody_with_it() -> None:
    rig = Rig()
    await rig.busy()
    late = await rig.ask(row(1, deadline=time.monotonic() + 0.05))
    other = await rig.ask(row(2))
    (group,) = rig.infer._queue.groups()
    rig.infer._send(group, time.monotonic())  # one batch of both
    await settle()
    asyncio.get_running_loop().call_later(0.05, late.cancel)  # as gRPC does at a caller's deadline
    await asyncio.sleep(0.02)
    time.sleep(0.06)  # noqa: ASYNC251 - both are due when the loop looks again
    await asyncio.wait([late])
    rig.open()
    assert answer_of(await _done(other)) == 3


async def _done(task: "asyncio.Task[InferResponse]") -> "asyncio.Task[InferResponse]":
    await asyncio.wait([task], timeout=5)
    return task


async def test_a_batch_that_is_left_before_its_task_has_begun_counts_no_more() -> None:
    rig = Rig()
    first = await rig.busy()
    waiting = [await rig.ask(row(i)) for i in range(2)]
    for task in (*first, *waiting):
        task.cancel()
    await settle()
    assert (rig.infer._in_flight, rig.infer._rows_in_flight, rig.endpoints[0].in_flight) == (0, 0, 0)


async def test_a_deadline_ends_the_wait_in_the_queue_and_in_a_batch() -> None:
    rig = Rig()
    first = await rig.busy()
    soon = await rig.ask(row(1, deadline=time.monotonic() + 0.02))
    with pytest.raises(DeadlineExceeded, match="before it could be sent"):
        await soon
    waiting = [await rig.ask(row(i, deadline=time.monotonic() + left)) for i, left in ((2, 0.3), (3, 60))]
    for task in first:
        task.cancel()
    await settle()
    assert rig.sizes() == [1, 1, 2]
    with pytest.raises(DeadlineExceeded, match="no answer before the deadline"):
        await waiting[0]
    rig.open()
    await waiting[1]
    assert answer_of(waiting[1]) == 4


async def test_what_has_expired_is_not_sent() -> None:
    clock = FakeClock()
    rig = Rig(clock=clock)
    first = await rig.busy()
    late = await rig.ask(row(1, deadline=clock.now + 5))
    fine = await rig.ask(row(2))
    clock.now += 6
    rig.open()
    await asyncio.wait([*first, late, fine])
    assert isinstance(late.exception(), DeadlineExceeded)
    assert rig.sizes() == [1, 1, 1]


async def test_a_batch_runs_to_the_latest_deadline_of_its_requests() -> None:
    rig = Rig()
    first = await rig.busy()
    now = time.monotonic()
    waiting = [await rig.ask(row(i, deadline=now + left)) for i, left in ((1, 20), (2, 30))]
    rig.open()
    await asyncio.gather(*first, *waiting)
    assert rig.engines[0].requests[-1].deadline == pytest.approx(now + 30)


async def test_a_delay_lets_others_join_although_the_pool_is_idle() -> None:
    rig = Rig(max_delay_seconds=0.02)
    tasks = [await rig.ask(row(i)) for i in range(2)]
    assert rig.sizes() == []
    await asyncio.gather(*tasks)
    assert rig.sizes() == [2]


async def test_a_full_batch_does_not_wait_for_the_delay() -> None:
    rig = Rig(max_delay_seconds=60.0)
    tasks = [await rig.ask(row(i)) for i in range(4)]
    await asyncio.gather(*tasks)
    assert rig.sizes() == [4]


async def test_a_key_with_many_requests_does_not_hold_up_another_key() -> None:
    rig = Rig(max_rows=4)
    first = await rig.busy()

    async def ask_as(name: str, value: int) -> "asyncio.Task[InferResponse]":
        token = CALLER.set(Key(name, name, b""))
        try:
            return await rig.ask(row(value))
        finally:
            CALLER.reset(token)

    many = [await ask_as("many", i) for i in range(8)]
    few = [await ask_as("few", 20 + i) for i in range(2)]
    rig.open()
    await asyncio.gather(*first, *many, *few)
    batch = rig.engines[0].requests[2]
    assert sorted(bytes(batch.inputs[0].data)[::2]) == [0, 1, 20, 21]


async def test_a_fault_of_the_gateway_itself_is_everybodys_too() -> None:
    rig = Rig(FakeInfer(sums, sums, ZeroDivisionError("x")))
    first = await rig.busy()
    waiting = [await rig.ask(row(i)) for i in range(2)]
    rig.open()
    await asyncio.wait([*first, *waiting])
    assert [type(task.exception()) for task in waiting] == [ZeroDivisionError, ZeroDivisionError]
    assert math.isinf(rig.infer._apart_until)
