"""SingleFlight: identical requests in flight cost one inference.

Inside of the memory tier, so that a hit costs nothing here; outside of Redis, so that one look-up serves all
who wait. Whoever begins a flight asks in its own task, and who joins waits for what comes of it: most flights
are joined by nobody, and a task for each would cost more than all else that is done here. Whoever leaves (its
deadline, its cancelled call) takes nothing from the others. When it is the one that asks, the most patient of
those who wait asks anew; each of the others would come to its own end before. And nobody joins one that is
less patient: what ends that one's wait would cost others an answer that they would have got alone.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.chain import Infer
from gateway.contract import Contract
from gateway.errors import DeadlineExceeded, Overloaded
from gateway.inference import InferRequest, InferResponse
from gateway.metrics import Metrics

PATIENCE_RATIO = 1.1
"""Who has at most so much of the time of the one that asks is as patient: the same limit, read a moment later
or earlier on its way here."""


class _Waiter:
    """Who has joined a flight.

    Attributes:
        deadline: its own.
        outcome: the answer, or a failure, or None when it is to ask itself.
    """

    __slots__ = ("deadline", "outcome")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.outcome: asyncio.Future[InferResponse | None] = asyncio.get_running_loop().create_future()


class _Flight:
    """A request that is under way.

    Attributes:
        patience_seconds: until its deadline, when it was sent.
        joined: called when one more joins.
        waiters: who has.
    """

    __slots__ = ("joined", "patience_seconds", "waiters")

    def __init__(self, patience_seconds: float, joined: Callable[[], None] | None) -> None:
        self.patience_seconds = patience_seconds
        self.joined = joined
        self.waiters: list[_Waiter] = []


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
            DeadlineExceeded: this request's own deadline passed; those who wait with it go on.
        """
        if not request.key:
            return await self._call_next(request)
        left = request.deadline - self._clock()
        if left <= 0:
            raise DeadlineExceeded(f"model '{request.model}': the deadline passed before it could be sent")
        flight = self._flights.get(request.key)
        if flight is None or left > PATIENCE_RATIO * flight.patience_seconds:
            self._started[request.model].inc()
            joined = None if self._trace is None else self._trace()
            flight = self._flights[request.key] = _Flight(left, joined)
        else:
            self._joined[request.model].inc()
            if flight.joined is not None:
                flight.joined()
            response = await self._landed(flight, request, left)
            if response is not None:
                return replace(response, cache="shared")
            flight.patience_seconds = request.deadline - self._clock()
        try:
            response = await self._call_next(request)
        except BaseException as error:
            self._failed(flight, request, error)
            raise
        # Whoever comes from now on finds the answer in the memory tier: it is kept there before anything else
        # runs.
        self._end(request.key, flight, response)
        return response

    async def _landed(self, flight: _Flight, request: InferRequest, left: float) -> InferResponse | None:
        """What comes of a flight that is under way; None when this request is to ask itself."""
        waiter = _Waiter(request.deadline)
        flight.waiters.append(waiter)
        try:
            async with asyncio.timeout(None if left == math.inf else left) as timeout:
                return await waiter.outcome
        except TimeoutError as error:
            self._leave(flight, request, waiter)
            if timeout.expired():
                raise DeadlineExceeded(f"model '{request.model}': no answer before the deadline") from error
            raise
        except asyncio.CancelledError:
            self._leave(flight, request, waiter)
            raise
        finally:
            del waiter, timeout  # a failure in the one is held by it, and holds this frame; as does the other

    def _leave(self, flight: _Flight, request: InferRequest, waiter: _Waiter) -> None:
        """One waits no more; whose turn it was to ask leaves that to the next."""
        if waiter in flight.waiters:
            flight.waiters.remove(waiter)
            return
        outcome = waiter.outcome
        if not outcome.cancelled() and outcome.exception() is None and outcome.result() is None:
            self._hand_over(request.key, flight)

    def _failed(self, flight: _Flight, request: InferRequest, error: BaseException) -> None:
        """The failure is everybody's, unless it was the end of the one that asked, or it was shed.

        Who is shed has cost no engine anything, and was so for its own deadline and priority.
        """
        if isinstance(error, Exception) and not isinstance(error, DeadlineExceeded | Overloaded):
            self._end(request.key, flight, error)
            return
        late = [waiter for waiter in flight.waiters if waiter.deadline <= request.deadline]
        if isinstance(error, DeadlineExceeded) and late:
            flight.waiters = [waiter for waiter in flight.waiters if waiter not in late]
            for waiter in late:
                _tell(waiter, error)
        self._hand_over(request.key, flight)

    def _hand_over(self, key: bytes, flight: _Flight) -> None:
        """Let the most patient of those who wait ask; the flight ends when nobody does."""
        waiting = [waiter for waiter in flight.waiters if not waiter.outcome.done()]
        if not waiting:
            self._end(key, flight, None)
            return
        next_one = max(waiting, key=lambda waiter: waiter.deadline)
        flight.waiters.remove(next_one)
        next_one.outcome.set_result(None)

    def _end(self, key: bytes, flight: _Flight, outcome: InferResponse | Exception | None) -> None:
        """Let nobody join any more, and tell those who have."""
        if self._flights.get(key) is flight:  # else one that is more patient has taken its place
            del self._flights[key]
        for waiter in flight.waiters:
            _tell(waiter, outcome)
        flight.waiters.clear()  # of a failure each of them holds it, and that the frame that holds the flight


def _tell(waiter: _Waiter, outcome: InferResponse | Exception | None) -> None:
    if waiter.outcome.done():
        return
    if isinstance(outcome, Exception):
        waiter.outcome.set_exception(outcome)
    else:
        waiter.outcome.set_result(outcome)
