"""Admission: no more is sent to a pool than it answers in time; the rest waits in order, or is shed.

Inside of the caches, so that hits cost nothing and take no place; outside of Retry, so that a request keeps
its place while it is tried again, and all its attempts are one request to the pool. A flight of SingleFlight
waits once for all who share it, with the priority and the deadline of the one that asks.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from gateway.admission.gate import Gate, Reason
from gateway.chain import Infer
from gateway.errors import DeadlineExceeded, Overloaded, Unavailable
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.metrics import Metrics

TEXTS = {
    Reason.FULL: "as many requests wait for it as may",
    Reason.DISPLACED: "a request of higher priority took this one's place",
    Reason.LATE: "it would not have answered before the deadline",
}


class _Waiter:
    """A request in the queue.

    Attributes:
        turn: done when it is sent (None) or shed (why).
    """

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn: asyncio.Future[Reason | None] = asyncio.get_running_loop().create_future()

    @property
    def has_left(self) -> bool:
        return self.turn.done()


class Admission:
    """Holds back what a pool cannot answer in time.

    A request that finds room costs no task, and no await but the next stage's.

    Args:
        call_next: what it wraps.
        gates: of each pool; a request for any other pool passes. Two configurations may share one: what the
            older one still has in flight is in flight at the same endpoints.
        default_priority: of requests that name none.
        metrics: how long requests wait, who was shed and why.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        gates: Mapping[PoolKey, Gate[Any]],
        default_priority: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_next = call_next
        self._default_priority = default_priority
        self._clock = clock
        self._gates: Mapping[PoolKey, Gate[_Waiter]] = gates
        models = {pool.model for pool in self._gates}
        self._waits = {model: metrics.admission_waits.labels(model) for model in models}
        self._shed = {
            (model, reason): metrics.shed.labels(model, reason.value) for model in models for reason in Reason
        }

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            Overloaded: it was shed.
            DeadlineExceeded: its deadline passed while it waited.
        """
        gate = self._gates.get(request.pool)
        if gate is None:
            return await self._call_next(request)
        if not gate.enter():
            await self._wait(gate, request)
        was_alone = gate.in_flight == 1
        sent = self._clock()
        gate.limit.sent(request.deadline - sent)
        try:
            response = await self._call_next(request)
            now = self._clock()
            gate.limit.answered(now - sent, now, in_flight=gate.in_flight, was_alone=was_alone)
        except (DeadlineExceeded, asyncio.CancelledError):
            now = self._clock()
            gate.limit.abandoned(now - sent, now, in_flight=gate.in_flight)
            raise
        except Unavailable:
            gate.limit.refused(self._clock())
            raise
        else:
            return response
        finally:
            self._free(gate)

    async def _wait(self, gate: Gate[_Waiter], request: InferRequest) -> None:
        """Return when it is this request's turn, which then counts as in flight."""
        began = self._clock()
        if began >= request.deadline:
            raise self._expired(request)
        waiter = _Waiter()
        place = gate.queue.place(
            request.priority or self._default_priority,
            request.deadline,
            sum(len(tensor.data) for tensor in request.inputs),
            waiter,
        )
        reason, displaced = gate.join(place, began)
        if reason:
            raise self._overloaded(gate, request, reason)
        for other in displaced:
            _end(other, Reason.DISPLACED)
        left_seconds = request.deadline - began
        try:
            async with asyncio.timeout(None if left_seconds == math.inf else left_seconds):
                reason = await waiter.turn
        except TimeoutError as error:
            self._leave(gate, waiter)
            raise self._expired(request) from error
        except asyncio.CancelledError:
            self._leave(gate, waiter)
            raise
        finally:
            gate.queue.remove(place)
        if reason:
            raise self._overloaded(gate, request, reason)
        self._waits[request.model].observe(self._clock() - began)

    def _leave(self, gate: Gate[_Waiter], waiter: _Waiter) -> None:
        """Give back the turn of one that was sent in the moment in which it left."""
        turn = waiter.turn
        if turn.done() and not turn.cancelled() and turn.result() is None:
            self._free(gate)

    def _free(self, gate: Gate[_Waiter]) -> None:
        """One is in flight no more: whoever waits may be sent."""
        gate.in_flight -= 1
        if not len(gate.queue):
            return
        turns = gate.turns(self._clock())
        for waiter in turns.sent:
            _end(waiter, None)
        for waiter in turns.late:
            _end(waiter, Reason.LATE)

    def _overloaded(self, gate: Gate[_Waiter], request: InferRequest, reason: Reason) -> Overloaded:
        self._shed[request.model, reason].inc()
        return Overloaded(
            f"model '{request.model}' is overloaded: {TEXTS[reason]}",
            retry_after_seconds=gate.retry_after_seconds(),
        )

    def _expired(self, request: InferRequest) -> DeadlineExceeded:
        self._shed[request.model, Reason.EXPIRED].inc()
        return DeadlineExceeded(f"model '{request.model}': the deadline passed before it could be sent")


def show(gates: Mapping[PoolKey, Gate[Any]], metrics: Metrics) -> None:
    """Let the metrics tell of these gates."""
    for key, gate in gates.items():
        labels = (key.model, key.version, key.variant)
        metrics.admission_limit.labels(*labels).set_function(partial(_limit, gate))
        metrics.admission_queued.labels(*labels).set_function(partial(_queued, gate))


def hide(pools: Iterable[PoolKey], metrics: Metrics) -> None:
    """Let the metrics tell of the gates of these pools no more."""
    for key in pools:
        for metric in (metrics.admission_limit, metrics.admission_queued):
            metric.remove(key.model, key.version, key.variant)


def _end(waiter: _Waiter, reason: Reason | None) -> None:
    """Wake one that waits; it makes its own error, since one in its future would be held by its own frame."""
    if not waiter.has_left:
        waiter.turn.set_result(reason)


def _limit(gate: Gate[_Waiter]) -> float:
    return gate.limit.requests


def _queued(gate: Gate[_Waiter]) -> float:
    return len(gate.queue)
