"""An open loop over a simulated engine, in virtual time: minutes in a second, and the same every time."""

import asyncio
import selectors
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from gateway.admission.gate import Gate, GateRules
from gateway.chain import Infer
from gateway.errors import DeadlineExceeded, Overloaded
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.metrics import Metrics
from gateway.stages.admission import Admission
from tests.fakes import SUM, a_request

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Moves the clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += max(0.0, timeout or 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while nothing is to do."""

    def __init__(self) -> None:
        self._moving = _Selector()
        super().__init__(self._moving)

    def time(self) -> float:
        return self._moving.now


def in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """What comes of `work`, on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def loop_clock() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()


class SimulatedEngine:
    """Workers that take what waits, first come first served, up to a batch each.

    It also does the work of those who have given up, as engines do.

    Args:
        workers: at once.
        max_batch: requests of one run.
        base_seconds: of a run.
        item_seconds: of each request in it.
        rng: how long a run really takes, around that.
    """

    def __init__(
        self, *, workers: int, max_batch: int, base_seconds: float, item_seconds: float, rng: Random
    ) -> None:
        self.capacity = workers * max_batch / (base_seconds + max_batch * item_seconds)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._free = workers
        self._max_batch = max_batch
        self._seconds = (base_seconds, item_seconds)
        self._rng = rng

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        loop.call_soon(self._run)  # so that what comes at the same instant joins the same batch
        left = request.deadline - loop.time()
        try:
            async with asyncio.timeout(left):
                await turn
        except TimeoutError as error:
            raise DeadlineExceeded("late") from error
        return InferResponse(request.model, request.version, (SUM,))

    def _run(self) -> None:
        while self._waiting and self._free:
            batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
            self._free -= 1
            base, item = self._seconds
            took = (base + item * len(batch)) * self._rng.lognormvariate(0, 0.2)
            asyncio.get_running_loop().call_later(took, self._ran, batch)

    def _ran(self, batch: list[asyncio.Future[None]]) -> None:
        self._free += 1
        for turn in batch:
            if not turn.done():
                turn.set_result(None)
        self._run()


@dataclass
class Outcome:
    """Requests that came after the first third, by what became of them.

    Attributes:
        good: answered in time, by priority.
        shed: refused before they were sent, by priority.
        late: sent, or left waiting, and not answered in time.
        most_waiting: the longest that the queue ever was.
    """

    good: dict[int, int] = field(default_factory=dict)
    shed: dict[int, int] = field(default_factory=dict)
    late: int = 0
    seconds: float = 0.0

    @property
    def goodput(self) -> float:
        """Answers in time, a second."""
        return sum(self.good.values()) / self.seconds


def admitted(infer: Infer, rules: GateRules | None = None) -> Admission:
    """An Admission in front of the pool of `simulated requests`."""
    return Admission(
        infer,
        gates={PoolKey("adder", "1", "fp32"): Gate(rules or GateRules())},
        default_priority=5,
        metrics=Metrics(CollectorRegistry()),
        clock=loop_clock,
    )


async def offer(
    infer: Infer,
    *,
    rate: float,
    seconds: float,
    deadlines: Mapping[float, float],
    rng: Random,
    high_ratio: float = 0.0,
) -> Outcome:
    """Poisson arrivals at `rate` a second.

    Args:
        infer: what is asked.
        rate: requests a second.
        seconds: how long.
        deadlines: seconds that callers give, each with its weight.
        rng: draws arrivals, deadlines and priorities.
        high_ratio: share of requests with priority 1.
    """
    loop = asyncio.get_running_loop()
    outcome = Outcome(seconds=seconds * 2 / 3)
    tasks: set[asyncio.Task[None]] = set()
    began = loop.time()

    async def ask(*, deadline: float, priority: int, counts: bool) -> None:
        request = a_request(version="1", variant="fp32", deadline=deadline, priority=priority)
        try:
            await infer(request)
        except Overloaded:
            outcome.shed[priority] = outcome.shed.get(priority, 0) + counts
        except DeadlineExceeded:
            outcome.late += counts
        else:
            outcome.good[priority] = outcome.good.get(priority, 0) + counts

    while loop.time() < began + seconds:
        await asyncio.sleep(rng.expovariate(rate))
        (given,) = rng.choices(list(deadlines), list(deadlines.values()))
        work = ask(
            deadline=loop.time() + given,
            priority=1 if rng.random() < high_ratio else 0,
            counts=loop.time() >= began + seconds / 3,
        )
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return outcome
