"""Hedged: what an endpoint does not answer in the usual time is asked of another; the first answer wins.

Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013: a second request that is sent only once the first has
been under way for longer than the 95th percentile costs some 5 % more load and cuts the tail off.

Inside of Retry: a hedge runs beside an attempt, a retry comes after it. Outside of Routed and Balancer, which
pick the second endpoint as they picked the first. Inferences have no effect but their answer, so that two at
a time are safe. Nobody knows what a handler without a contract does, so models passed through have none.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Protocol

from gateway.alarms import Alarms
from gateway.balancing.latency_quantile import LatencyQuantile
from gateway.balancing.retry_budget import RetryBudget
from gateway.chain import Infer
from gateway.errors import EndpointFailure, Unavailable
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.metrics import Metrics

QUANTILE = 0.95
"""Of a pool's latency: how long the first attempt is alone (Dean and Barroso)."""

WON, LOST, REFUSED = RESULTS = "won", "lost", "refused"


class Hedging(Protocol):
    """What is asked of a pool's balancer."""

    def has_others(self) -> bool:
        """Whether the pool has more than one endpoint."""

    def takes(self, request: InferRequest, /) -> bool:
        """Whether an endpoint of the pool would take a request now."""


@dataclass(slots=True)
class _Pool:
    endpoints: Hedging
    budget: RetryBudget
    latency: LatencyQuantile
    delays: "Alarms[_Race]" = field(default_factory=lambda: Alarms(_Race.ring))


class Hedged:
    """Sends a second attempt after the pool's own 95th percentile, and takes the first good answer.

    An attempt's latency is its pool's also when the hedge has won: it would have taken longer than that, and
    how much longer does not move the percentile. A pool of one endpoint is asked once, as nobody else can be.

    Args:
        call_next: what it wraps.
        pools: the balancers of those that are hedged.
        latencies: of these pools.
        new_budget: makes what a pool's hedges are paid from. Only answers pay in, so that endpoints that all
            fail get no hedges on top of the retries.
        metrics: counts hedges.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        pools: Mapping[PoolKey, Hedging],
        latencies: Mapping[PoolKey, LatencyQuantile],
        new_budget: Callable[[], RetryBudget],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.call_next = call_next
        self._pools = {key: _Pool(pool, new_budget(), latencies[key]) for key, pool in pools.items()}
        self._metrics = metrics
        self._clock = clock
        for model in {key.model for key in pools}:
            for result in RESULTS:
                metrics.hedges.labels(model, result)  # from 0 on, so that the first is an increase

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            EndpointFailure: the attempt failed, and its hedge if there was one: `endpoint` and `hedged_at`.
        """
        pool = self._pools.get(request.pool)
        if pool is None:
            return await self.call_next(request)
        started = self._clock()
        delay = pool.latency.at(started)
        if delay == math.inf or started + delay >= request.deadline or not pool.endpoints.has_others():
            response = await self.call_next(request)
        else:
            race = _Race(self, pool, request, delay)
            try:
                response = await race.run()
            finally:
                if race.result:
                    self._metrics.hedges.labels(request.model, race.result).inc()
        now = self._clock()
        pool.latency.observe(now - started, now)
        pool.budget.deposit(now)
        return response

    async def attempt(self, request: InferRequest) -> InferResponse:
        """A second attempt."""
        return await self.call_next(request)

    def may_hedge(self, pool: _Pool, request: InferRequest) -> bool:
        """Whether this second attempt would be in time, taken by somebody, and paid."""
        now = self._clock()
        if now >= request.deadline or not pool.endpoints.takes(request):
            return False
        is_paid = pool.budget.withdraw(now)
        if not is_paid:
            self._metrics.hedges.labels(request.model, REFUSED).inc()
        return is_paid


class _Race:
    """A first attempt in the task that asks, and perhaps a second one in a task of its own.

    The first one needs no task: when the second has won, the first one is taken out of its wait as a timeout
    does it, by a cancellation of the task that asks, which is then taken back.

    Args:
        hedged: makes the attempts, and says whether there may be a second one when the delay is over.
        pool: that is asked.
        request: what is asked; has a list for `picked` while it runs.
        delay: until the second attempt, in seconds.

    Attributes:
        result: of the hedge: `won` or `lost`; empty while there was none.
    """

    __slots__ = (
        "_cancelling",
        "_cancels",
        "_context",
        "_delay",
        "_hedge",
        "_hedged",
        "_lends_list",
        "_pool",
        "_request",
        "_task",
        "result",
    )

    def __init__(self, hedged: Hedged, pool: _Pool, request: InferRequest, delay: float) -> None:
        self._lends_list = request.picked is None
        if request.picked is None:
            request.picked = []
        self._hedged = hedged
        self._pool = pool
        self._request = request
        self._delay = delay
        self._context = copy_context()
        self._task = asyncio.current_task()  # while the first attempt is waited for
        self._cancels = False
        self._hedge: asyncio.Task[InferResponse] | None = None
        self.result = ""

    async def run(self) -> InferResponse:
        """The first good answer, or what both have come to."""
        task = self._task
        assert task is not None  # noqa: S101 - whoever runs is in one
        self._cancelling = task.cancelling()
        self._pool.delays.set(self, self._delay)
        try:
            return await self._hedged.call_next(self._request)
        except asyncio.CancelledError:
            is_only_ours = self._cancels and task.cancelling() == self._cancelling + 1
            if self._hedge is None or not is_only_ours:
                raise
            return self._taken(self._hedge)
        except EndpointFailure as failure:
            self._task = None
            if self._hedge is None:
                raise
            return await self._last_chance(self._hedge, failure)
        finally:
            self._pool.delays.stop(self)
            if self._lends_list:
                self._request.picked = None  # else a retry would look like a hedge
            if self._cancels:
                task.uncancel()
            if self._hedge is not None:
                self._hedge.cancel()  # of one that is done, nothing
            # They hold their exceptions, those this frame, and that the tensors.
            self._hedge = self._task = task = None

    def ring(self) -> None:
        """The delay is over."""
        if not self._request.picked:
            # Not sent yet: it waits for the batch that it will be in.
            self._pool.delays.set(self, self._delay)
            return
        second = self._request.without(*self._request.picked)
        if self._hedged.may_hedge(self._pool, second):
            self.result = LOST  # unless it wins
            loop = asyncio.get_running_loop()
            self._hedge = loop.create_task(self._hedged.attempt(second), context=self._context)
            self._hedge.add_done_callback(self._finished)

    async def _last_chance(
        self, hedge: asyncio.Task[InferResponse], failure: EndpointFailure
    ) -> InferResponse:
        """What the hedge comes to, once the first attempt has failed."""
        await asyncio.wait((hedge,))
        second = hedge.exception()
        try:
            match second:
                case None:
                    return self._taken(hedge)
                case EndpointFailure(was_sent=True):
                    second.hedged_at = failure.endpoint
                    raise second
                case EndpointFailure():
                    failure.hedged_at = second.endpoint
                    raise failure
                case Unavailable():
                    raise failure
                case _:
                    raise second
        finally:
            del hedge, failure, second  # each holds this frame

    def _taken(self, hedge: asyncio.Task[InferResponse]) -> InferResponse:
        self.result = WON
        return hedge.result()

    def _finished(self, hedge: asyncio.Task[InferResponse]) -> None:
        """A good answer ends the first attempt; a failure leaves it to its own end."""
        if self._task is not None and not hedge.cancelled() and hedge.exception() is None:
            self._cancels = True
            self._task.cancel()
