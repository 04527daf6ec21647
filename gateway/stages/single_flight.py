"""SingleFlight: identical requests in flight cost one inference.

Inside of the memory tier, so that a hit costs no task; outside of Redis, so that one look-up serves all who
wait. The flight is a task of its own: a waiter that leaves (its deadline, its cancelled call) takes nothing
from the others, and the flight ends with its last waiter.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gateway.chain import Infer
from gateway.contract import Contract
from gateway.errors import DeadlineExceeded
from gateway.inference import FlightDeadline, InferRequest, InferResponse
from gateway.metrics import Metrics


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[InferResponse]
    joined: Callable[[], None] | None
    deadline: FlightDeadline
    waiters: int = 0


class SingleFlight:
    """Joins a request to the flight of an identical one.

    Args:
        call_next: what it wraps.
        contracts: by model name.
        metrics: counts who joined (tier `shared`).
        clock: seconds, monotonic.
        trace: called where a flight starts; what it returns, by whoever joins that flight.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        contracts: Mapping[str, Contract],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        trace: Callable[[], Callable[[], None]] | None = None,
    ) -> None:
        self._call_next = call_next
        self._trace = trace
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}
        self._joined = {name: metrics.lookups.labels(name, "shared", "hit") for name in contracts}
        self._started = {name: metrics.lookups.labels(name, "shared", "miss") for name in contracts}

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            DeadlineExceeded: this waiter's own deadline passed; the flight goes on for the others.
        """
        if not request.key:
            return await self._call_next(request)
        left = request.deadline - self._clock()
        if left <= 0:
            raise DeadlineExceeded(f"model '{request.model}': the deadline passed before it could be sent")
        flight = self._flights.get(request.key)
        joined = flight is not None
        if flight is None:
            flight = self._start(request)
        else:
            flight.deadline.latest = max(flight.deadline.latest, request.deadline)
            if flight.joined is not None:
                flight.joined()
        (self._joined if joined else self._started)[request.model].inc()
        flight.waiters += 1
        try:
            async with asyncio.timeout(left) as timeout:
                response = await asyncio.shield(flight.task)
        except TimeoutError as error:
            if timeout.expired():
                raise DeadlineExceeded(f"model '{request.model}': no answer before the deadline") from error
            raise
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                self._end(request.key, flight)
            del flight  # a failed one holds its exception, which holds this frame, which holds the tensors
        return replace(response, cache="shared") if joined else response

    def _start(self, request: InferRequest) -> _Flight:
        # Every waiter leaves at its own deadline and the last one ends the flight: it needs none of its own,
        # and so runs to the latest of its waiters. Queues order it by that one, as known when they look.
        deadline = FlightDeadline(request.deadline)
        flown = replace(request, deadline=math.inf, flight_deadline=deadline, id="")
        task = asyncio.create_task(self._fly(flown))
        joined = None if self._trace is None else self._trace()
        flight = self._flights[request.key] = _Flight(task, joined, deadline)
        task.add_done_callback(lambda task: self._landed(request.key, flight, task))
        return flight

    async def _fly(self, request: InferRequest) -> InferResponse:
        return await self._call_next(request)

    def _landed(self, key: bytes, flight: _Flight, task: asyncio.Task[InferResponse]) -> None:
        """End a flight that failed. An answer may be joined until its last waiter has taken it.

        The memory tier has the answer only once a waiter has come back through it. Whoever comes before that
        would find it neither there nor here, and cost another inference.
        """
        if task.cancelled() or task.exception() is not None or not flight.waiters:
            self._end(key, flight)

    def _end(self, key: bytes, flight: _Flight) -> None:
        """Let nobody join any more, and stop what nobody waits for."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.task.cancel()  # of one that is done, nothing
