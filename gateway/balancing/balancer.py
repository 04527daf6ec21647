"""Balancer: sends a request to one endpoint of its pool and learns from what comes back."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from random import Random

from gateway.balancing import p2c
from gateway.balancing.candidates import candidates
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.endpoint_series import EndpointSeries
from gateway.balancing.passive_health import PassiveHealth
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

Policy = Callable[[Sequence[Endpoint], float, Random], Endpoint]
"""Picks one of the candidates, of which there is at least one, at a time."""

DEFAULT_RULES = PassiveHealth()

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
        policy: picks among the candidates.
        panic_ratio: see `candidates`.
        passive_health: which failure ejects.
        clock: seconds, monotonic.
        rng: draws the endpoints.

    Attributes:
        endpoints: of the pool, as of now.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        pool: PoolKey,
        attempt_timeout_seconds: float,
        metrics: Metrics,
        policy: Policy = p2c.pick,
        panic_ratio: float = 0.0,
        passive_health: PassiveHealth = DEFAULT_RULES,
        clock: Callable[[], float] = time.monotonic,
        rng: Random,
    ) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._series = EndpointSeries(pool, metrics, clock)
        self._pick = policy
        # Other policies compare all endpoints, and a ratio above 0 counts them.
        self._draws = policy is p2c.pick and not panic_ratio
        self._panic_ratio = panic_ratio
        self._passive_health = passive_health
        self._clock = clock
        self._rng = rng
        self._is_published = False
        for endpoint in endpoints:
            self.add(endpoint)

    def add(self, endpoint: Endpoint) -> None:
        """Take an endpoint into the pool; it gets requests once it is ready.

        Raises:
            ValueError: one of its name is in the pool.
        """
        if any(endpoint.name == other.name for other in self.endpoints):
            raise ValueError(f"endpoint '{endpoint.name}' is in the pool")
        self.endpoints += (endpoint,)
        if self._is_published:
            self._series.add(endpoint)

    def remove(self, name: str) -> Endpoint:
        """Take an endpoint out of the pool: no new request goes there, and those in flight finish.

        Its backend may be closed once its `in_flight` is 0.

        Raises:
            ValueError: none of this name is in the pool.
        """
        for endpoint in self.endpoints:
            if endpoint.name == name:
                self.endpoints = tuple(other for other in self.endpoints if other is not endpoint)
                if self._is_published:
                    self._series.remove(endpoint)
                return endpoint
        raise ValueError(f"endpoint '{name}' is not in the pool")

    def publish(self) -> None:
        """Let the metrics tell of this pool's endpoints: once it serves, and not while it only warms up."""
        self._is_published = True
        for endpoint in self.endpoints:
            self._series.add(endpoint)

    def withdraw(self, staying: Collection[str]) -> None:
        """Let the metrics tell of this pool no more: another serves, and has endpoints with these names."""
        self._is_published = False
        for endpoint in self.endpoints:
            if endpoint.name not in staying:
                self._series.remove(endpoint)

    def is_ready(self) -> bool:
        """Whether any endpoint takes traffic."""
        return bool(self._candidates(frozenset(), self._clock()))

    def takes(self, request: InferRequest) -> bool:
        """Whether an endpoint that the request does not exclude would take it now, in good health."""
        now = self._clock()
        return any(e.name not in request.excluded and e.is_available(now) for e in self.endpoints)

    def has_others(self) -> bool:
        """Whether there is more than one endpoint, in whatever health."""
        return len(self.endpoints) > 1

    def idle_instances(self, excluded: frozenset[str]) -> int:
        """Of one that has some and is not excluded; else 0, or less where more than one batch waits at each.

        Where no endpoint is left it is 1, since whoever waited for one to get free would wait for nothing.
        """
        now = self._clock()
        if self._draws and len(self.endpoints) > 1:  # a large pool mostly has one that is idle: no walk then
            drawn = p2c.draw(self.endpoints, excluded, now, self._rng)
            if drawn is not None and drawn.in_flight < drawn.instances:
                return drawn.instances - drawn.in_flight
        left = self._candidates(excluded, now)
        return max((endpoint.instances - endpoint.in_flight for endpoint in left), default=1)

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
        endpoint = self._chosen(request, now)
        is_hedge = bool(request.picked)
        if request.picked is not None:
            request.picked.append(endpoint.name)
        return await self._attempt(endpoint, request, now, is_hedge=is_hedge)

    def _chosen(self, request: InferRequest, now: float) -> Endpoint:
        """The endpoint for a request, by the policy (Unavailable)."""
        excluded = request.excluded
        if self._draws and len(self.endpoints) > 1:
            drawn = p2c.draw(self.endpoints, excluded, now, self._rng)
            if drawn is not None:
                return drawn
        left = self._candidates(excluded, now)
        if not left:
            raise self._unavailable(request)
        return self._pick(left, now, self._rng)

    def _candidates(self, excluded: frozenset[str], now: float) -> list[Endpoint]:
        return candidates(self.endpoints, excluded, now, panic_ratio=self._panic_ratio)

    async def _attempt(
        self, endpoint: Endpoint, request: InferRequest, started: float, *, is_hedge: bool
    ) -> InferResponse:
        left = request.deadline - started
        limit = min(self._attempt_timeout_seconds, left)
        outcome = ABANDONED
        endpoint.in_flight += 1
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                response = await endpoint.infer(request.until(started + limit))
            outcome = OK
            self._passive_health.answered(endpoint, sent=started, now=self._clock())
            return response.by(endpoint.name)
        except TimeoutError:
            # The clock is not asked: uvloop's timers, in whole milliseconds, mostly fire before it says so.
            # And a server that was told the limit may say first that it is over.
            is_late = limit == left and (timeout.expired() or self._clock() >= request.deadline)
            outcome = ABANDONED if is_late else AttemptTimedOut.__name__
        except EndpointFailure as failure:
            outcome = type(self._booked(failure, endpoint, started)).__name__
            raise
        except InferwayError as error:
            outcome = error.code.value
            # It answered: the input was at fault.
            self._passive_health.answered(endpoint, sent=started, now=self._clock())
            raise
        except Exception:
            outcome = Code.INTERNAL.value
            raise
        finally:
            endpoint.in_flight -= 1
            del timeout  # it holds the task, that its exception, that this frame, and that the request
            self._observe(endpoint, outcome, self._clock() - started, is_hedge=is_hedge)
        # Here and not where it was caught, for the same reason: an error's context is held by the error.
        if is_late:
            raise DeadlineExceeded(f"model '{request.model}': no answer before the deadline")
        raise self._booked(AttemptTimedOut(f"no answer in {limit:g} s"), endpoint, started)

    def _booked(self, failure: EndpointFailure, endpoint: Endpoint, started: float) -> EndpointFailure:
        """The failure, once its endpoint is told of it, and it of its endpoint."""
        failure.endpoint = endpoint.name
        if failure.blames_endpoint:
            is_ejected = self._passive_health.failed(
                endpoint, self.endpoints, sent=started, now=self._clock()
            )
            if is_ejected and self._is_published and endpoint in self.endpoints:
                self._series.ejected(endpoint)
        return failure

    def _observe(self, endpoint: Endpoint, outcome: str, seconds: float, *, is_hedge: bool) -> None:
        self._series.attempted(endpoint.backend, outcome, seconds)
        # A failure may be fast, and a fast failure must not look like a fast endpoint.
        now = self._clock()
        if outcome == ABANDONED:
            endpoint.outlier.gave_up()
        if outcome == ABANDONED and not is_hedge:
            # Not of a hedge: the first attempt had a start, and an endpoint that gets little but hedges would
            # look slower with each, and get nothing else for ever.
            endpoint.latency.gave_up(seconds, now)
        elif outcome == OK or seconds > endpoint.latency.at(now):
            endpoint.latency.observe(seconds, now)

    def _unavailable(self, request: InferRequest) -> Unavailable:
        states = ", ".join(f"{e.name} ({_state(e, request)})" for e in self.endpoints)
        return Unavailable(f"model '{request.model}': no endpoint is left: {states or 'the pool is empty'}")


def _state(endpoint: Endpoint, request: InferRequest) -> str:
    """Why an endpoint is not among a request's candidates."""
    if endpoint.name in request.excluded:
        return "failed"
    return "draining" if endpoint.is_draining else "not ready"
