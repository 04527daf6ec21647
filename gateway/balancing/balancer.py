"""Balancer: sends a request to one endpoint of its pool and learns from what comes back."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from prometheus_client import Histogram

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.p2c import pick
from gateway.errors import (
    AttemptTimedOut,
    Code,
    DeadlineExceeded,
    EndpointFailure,
    InferwayError,
    Unavailable,
)
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.metrics import Metrics

OK = "ok"
ABANDONED = "abandoned"
"""The caller's deadline passed or it left: the attempt was given up, and nobody is to blame."""


class Balancer:
    """One pool.

    Args:
        endpoints: of the pool.
        pool: what it serves, for metrics and messages.
        attempt_timeout_seconds: how long one attempt may take.
        metrics: attempts, ejections, in-flight.
        clock: seconds, monotonic.
        rng: draws the endpoints.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        pool: PoolKey,
        attempt_timeout_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        rng: Random,
    ) -> None:
        self.endpoints = endpoints
        self._pool = pool
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._attempts = metrics.attempts
        self._children: dict[tuple[str, str], Histogram] = {}
        self._ejections = metrics.ejections
        self._clock = clock
        self._rng = rng
        for endpoint in endpoints:
            labels = self._labels(endpoint)
            self._ejections.labels(*labels)
            metrics.in_flight.labels(*labels).set_function(partial(_in_flight, endpoint))
            metrics.available.labels(*labels).set_function(partial(_available, endpoint, clock))

    def is_ready(self) -> bool:
        """Whether any endpoint takes traffic."""
        now = self._clock()
        return any(endpoint.is_available(now) or self._is_on_trial(endpoint) for endpoint in self.endpoints)

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Make one attempt.

        Raises:
            DeadlineExceeded: the deadline passed, before or during the attempt.
            Unavailable: no endpoint is left.
            EndpointFailure: the attempt failed; its `endpoint` says where.
        """
        now = self._clock()
        if now >= request.deadline:
            raise DeadlineExceeded(f"model '{request.model}': the deadline passed before it could be sent")
        endpoint = pick(self.endpoints, request.excluded, now, self._rng)
        if endpoint is None:
            raise self._unavailable(request, now)
        return await self._attempt(endpoint, request, now)

    async def _attempt(self, endpoint: Endpoint, request: InferRequest, started: float) -> InferResponse:
        left = request.deadline - started
        limit = min(self._attempt_timeout_seconds, left)
        outcome = ABANDONED
        endpoint.in_flight += 1
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                response = await endpoint.infer(request)
            outcome = OK
            endpoint.outlier.succeeded()
            return replace(response, endpoint=endpoint.name)
        except TimeoutError:
            # The clock is not asked: uvloop's timers, in whole milliseconds, mostly fire before it says so.
            is_late = timeout.expired() and limit == left
            outcome = ABANDONED if is_late else AttemptTimedOut.__name__
        except EndpointFailure as failure:
            outcome = type(self._booked(failure, endpoint)).__name__
            raise
        except InferwayError as error:
            outcome = error.code.value
            endpoint.outlier.succeeded()  # it answered: the input was at fault
            raise
        except Exception:
            outcome = Code.INTERNAL.value
            raise
        finally:
            endpoint.in_flight -= 1
            del timeout  # it holds the task, that its exception, that this frame, and that the request
            self._observe(endpoint, outcome, self._clock() - started)
        # Here and not where it was caught, for the same reason: an error's context is held by the error.
        if is_late:
            raise DeadlineExceeded(f"model '{request.model}': no answer before the deadline")
        raise self._booked(AttemptTimedOut(f"no answer in {limit:g} s"), endpoint)

    def _booked(self, failure: EndpointFailure, endpoint: Endpoint) -> EndpointFailure:
        """The failure, once its endpoint is told of it, and it of its endpoint."""
        failure.endpoint = endpoint.name
        if failure.blames_endpoint and endpoint.outlier.failed(self._clock()):
            self._ejections.labels(*self._labels(endpoint)).inc()
        return failure

    def _child(self, backend: str, outcome: str) -> Histogram:
        """The histogram of a backend's attempts that came to this, bound once."""
        child = self._children.get((backend, outcome))
        if child is None:
            pool = self._pool
            child = self._attempts.labels(pool.model, pool.version, pool.variant, backend, outcome)
            self._children[backend, outcome] = child
        return child

    def _observe(self, endpoint: Endpoint, outcome: str, seconds: float) -> None:
        self._child(endpoint.backend, outcome).observe(seconds)
        # A failure may be fast, and a fast failure must not look like a fast endpoint; given up, it is slow
        # at least to this degree.
        now = self._clock()
        if outcome == OK or seconds > endpoint.latency.at(now):
            endpoint.latency.observe(seconds, now)

    def _labels(self, endpoint: Endpoint) -> tuple[str, ...]:
        pool = self._pool
        return (endpoint.name, pool.model, pool.version, pool.variant, endpoint.backend)

    def _unavailable(self, request: InferRequest, now: float) -> Unavailable:
        until = [e.outlier.ejected_until - now for e in self.endpoints if e.outlier.is_ejected(now)]
        states = ", ".join(f"{e.name} ({self._state(e, request, now)})" for e in self.endpoints)
        return Unavailable(
            f"model '{request.model}': no endpoint is left: {states}",
            retry_after_seconds=min(until, default=1.0),
        )

    def _state(self, endpoint: Endpoint, request: InferRequest, now: float) -> str:
        if endpoint.name in request.excluded:
            return "failed"
        if endpoint.outlier.is_ejected(now):
            return "ejected"
        return "on probation" if endpoint.is_ready else "not ready"

    def _is_on_trial(self, endpoint: Endpoint) -> bool:
        return endpoint.is_ready and endpoint.outlier.on_probation and endpoint.in_flight > 0


def _in_flight(endpoint: Endpoint) -> float:
    return endpoint.in_flight


def _available(endpoint: Endpoint, clock: Callable[[], float]) -> float:
    return float(endpoint.is_ready and not endpoint.outlier.is_ejected(clock()))
