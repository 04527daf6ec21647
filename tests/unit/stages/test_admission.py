"""Admission: room, order, shedding; and nothing is lost when callers leave."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.admission.gate import Gate, GateRules
from gateway.admission.limit import LimitRules
from gateway.chain import Infer
from gateway.errors import DeadlineExceeded, EndpointFailed, Overloaded, Unavailable
from gateway.inference import InferRequest, InferResponse, PoolKey, Tensor
from gateway.metrics import Metrics
from gateway.stages.admission import Admission, show
from tests.fakes import FakeClock, FakeInfer, a_request, settle

POOL = {"model": "adder", "version": "1", "variant": "fp32"}


class Rig:
    """An Admission in front of a pool that answers once `pool.is_open` is set."""

    def __init__(self, *answers: Any, limit: int = 1, queue: int = 10, infer: Infer | None = None) -> None:
        self.pool = FakeInfer(*answers)
        self.pool.is_open.clear()
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        gates: dict[PoolKey, Gate[Any]] = {
            PoolKey("adder", "1", "fp32"): Gate(GateRules(LimitRules(limit, limit), queue))
        }
        self.infer = Admission(
            infer or self.pool, gates=gates, default_priority=5, metrics=metrics, clock=self.clock
        )
        show(gates, metrics)
        self.tasks: list[asyncio.Task[InferResponse]] = []

    async def ask(self, **changes: Any) -> asyncio.Task[InferResponse]:
        async def infer() -> InferResponse:
            return await self.infer(a_request(version="1", variant="fp32", **changes))

        task = asyncio.create_task(infer())
        self.tasks.append(task)
        await settle()
        return task

    async def answers(self) -> list[InferResponse | BaseException]:
        self.pool.is_open.set()
        return await asyncio.gather(*self.tasks, return_exceptions=True)

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"gateway_admission_{name}", labels) or 0.0

    @property
    def gate(self) -> Any:
        (gate,) = self.infer._gates.values()
        return gate


async def test_one_that_finds_room_suspends_nowhere_and_makes_no_task() -> None:
    rig = Rig(limit=4)
    rig.pool.is_open.set()
    work = rig.infer(a_request(version="1", variant="fp32"))
    with pytest.raises(StopIteration) as stopped:  # a coroutine that suspends would yield here
        work.send(None)
    assert stopped.value.value.version == "1"
    assert len(asyncio.all_tasks()) == 1
    assert rig.gate.in_flight == 0


async def test_a_pool_that_is_not_configured_is_for_the_next_stage_to_refuse() -> None:
    rig = Rig()
    rig.pool.is_open.set()
    assert (await rig.infer(a_request(model="other"))).model == "other"


async def test_the_rest_waits_and_is_sent_by_priority_and_deadline() -> None:
    rig = Rig()
    for name, priority, deadline in (
        ("sent", 0, math.inf),
        ("default", 0, 90_000.0),
        ("low", 6, 2000.0),
        ("early", 5, 50_000.0),
        ("high", 1, math.inf),
    ):
        await rig.ask(id=name, priority=priority, deadline=deadline)
    assert rig.sample("queued_requests", **POOL) == 4
    assert rig.sample("limit_requests", **POOL) == 1
    await rig.answers()
    assert [request.id for request in rig.pool.requests] == ["sent", "high", "early", "default", "low"]
    assert rig.sample("wait_duration_seconds_count", model="adder") == 4
    assert rig.sample("queued_requests", **POOL) == rig.gate.in_flight == 0


async def test_a_full_queue_sheds_with_a_time_to_come_back() -> None:
    rig = Rig(queue=1)
    for _ in range(3):
        await rig.ask()
    error = (await rig.answers())[2]
    assert isinstance(error, Overloaded)
    assert "overloaded" in str(error)
    assert error.retry_after_seconds >= 0
    assert rig.sample("shed_total", model="adder", reason="full") == 1


async def test_a_higher_priority_takes_the_place_of_the_lowest() -> None:
    rig = Rig(queue=1)
    await rig.ask(id="sent")
    displaced = await rig.ask(id="low", priority=9)
    await rig.ask(id="high", priority=1)
    with pytest.raises(Overloaded, match="higher priority"):
        await displaced
    await rig.answers()
    assert [request.id for request in rig.pool.requests] == ["sent", "high"]
    assert rig.sample("shed_total", model="adder", reason="displaced") == 1


async def test_one_whose_deadline_passes_while_it_waits_is_told_so_and_never_sent() -> None:
    rig = Rig()
    await rig.ask()
    late = await rig.ask(deadline=rig.clock.now + 0.01)
    with pytest.raises(DeadlineExceeded):
        await late
    await rig.answers()
    assert len(rig.pool.requests) == 1
    assert rig.sample("shed_total", model="adder", reason="expired") == 1


async def test_one_whose_deadline_has_passed_does_not_wait() -> None:
    rig = Rig()
    await rig.ask()
    with pytest.raises(DeadlineExceeded):
        await rig.infer(a_request(version="1", variant="fp32", deadline=rig.clock.now))
    await rig.answers()


async def test_one_that_cannot_be_answered_in_time_any_more_is_shed_when_its_turn_comes() -> None:
    rig = Rig()
    await rig.ask()
    late = await rig.ask(deadline=rig.clock.now + 5.0)
    rig.clock.now += 6.0
    await rig.answers()
    assert isinstance(late.exception(), Overloaded)
    assert len(rig.pool.requests) == 1
    assert rig.sample("shed_total", model="adder", reason="late") == 1


async def test_who_leaves_the_queue_frees_its_place() -> None:
    rig = Rig(queue=1)
    await rig.ask()
    leaver = await rig.ask()
    leaver.cancel()
    await settle()
    assert rig.gate.queue.request_bytes == len(rig.gate.queue) == 0
    await rig.ask()
    assert sum(isinstance(answer, InferResponse) for answer in await rig.answers()) == 2


async def test_who_leaves_in_the_moment_of_its_turn_gives_it_to_the_next() -> None:
    is_open = asyncio.Event()

    async def pool(request: InferRequest, /) -> InferResponse:
        await is_open.wait()
        if request.id == "first":
            # Runs when the leaver's turn has come, and before it knows.
            asyncio.get_running_loop().call_soon(leaver.cancel)
        return InferResponse(request.model, "1", ())

    rig = Rig(infer=pool)
    _, leaver, last = [await rig.ask(id=name) for name in ("first", "leaver", "last")]
    is_open.set()
    async with asyncio.timeout(5.0):
        assert (await last).version == "1"
    assert leaver.cancelled()
    assert rig.gate.in_flight == 0


async def test_who_leaves_while_it_is_in_flight_lets_the_next_one_in() -> None:
    rig = Rig()
    leaver = await rig.ask(id="leaver")
    await rig.ask(id="next")
    leaver.cancel()
    await settle()
    assert [request.id for request in rig.pool.requests] == ["leaver", "next"]
    await rig.answers()


@pytest.mark.parametrize(
    "error", [EndpointFailed("x"), Unavailable("x"), ValueError("x"), DeadlineExceeded("x")]
)
async def test_whatever_a_request_ends_with_it_ends(error: Exception) -> None:
    rig = Rig(error)
    for _ in range(3):
        await rig.ask()
    assert all(type(answer) is type(error) for answer in await rig.answers())
    assert rig.gate.in_flight == len(rig.gate.queue) == 0


async def test_bytes_that_wait_are_those_of_the_tensors() -> None:
    rig = Rig()
    await rig.ask()
    await rig.ask(
        inputs=(Tensor("values", "INT8", (1, 5), bytes(5)), Tensor("more", "INT8", (1, 7), bytes(7)))
    )
    assert rig.gate.queue.request_bytes == 12
    await rig.answers()


class RandomPool:
    """Answers, fails or never does, as the request's id says."""

    def __init__(self) -> None:
        self.in_flight = self.most = 0

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            for _ in range(int(request.id)):
                await asyncio.sleep(0)
            if request.parameters:
                raise Unavailable("x")
            return InferResponse(request.model, "1", ())
        finally:
            self.in_flight -= 1


STEPS = st.lists(
    st.tuples(
        st.integers(0, 6),  # turns of the loop until the next one
        st.integers(0, 5),  # turns that its answer takes
        st.integers(0, 3),  # its priority
        st.booleans(),  # whether it fails
        st.none() | st.integers(0, 8),  # turns until it is cancelled
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 3), st.integers(0, 4))
def test_no_place_and_no_wake_up_is_ever_lost(
    steps: list[tuple[int, int, int, bool, int | None]], limit: int, queue: int
) -> None:
    async def play() -> None:
        pool = RandomPool()
        rig = Rig(limit=limit, queue=queue, infer=pool)
        request = a_request(version="1", variant="fp32")

        async def ask(turns: int, priority: int, *, fails: bool) -> InferResponse:
            parameters = {"fail": 1} if fails else {}
            return await rig.infer(replace(request, id=str(turns), priority=priority, parameters=parameters))

        async def leave(task: asyncio.Task[InferResponse], turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()

        tasks, leavers = [], []
        for pause, turns, priority, fails, leaves in steps:
            for _ in range(pause):
                await asyncio.sleep(0)
            task = asyncio.create_task(ask(turns, priority, fails=fails))
            tasks.append(task)
            if leaves is not None:
                leavers.append(asyncio.create_task(leave(task, leaves)))
        async with asyncio.timeout(5.0):  # a lost wake-up would wait for ever
            await asyncio.gather(*leavers)
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        expected = (InferResponse, Unavailable, Overloaded, asyncio.CancelledError)
        assert all(isinstance(end, expected) for end in ends)
        assert pool.most <= limit
        gate = rig.gate
        assert gate.in_flight == len(gate.queue) == gate.queue.request_bytes == 0

    asyncio.run(play())
