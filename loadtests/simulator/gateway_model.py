"""One gateway in simulated time: what `Retry` and `Balancer` do around the pure parts, without asyncio.

The choice of an endpoint, its load, its latency's average, ejection and the retry budget are the gateway's
own objects. What stands here a second time is their order only: that of `gateway/stages/retry.py` and of
`Balancer._attempt`.
"""

from collections.abc import Mapping, Sequence
from random import Random

from gateway.balancing.candidates import candidates
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.passive_health import PassiveHealth
from gateway.balancing.retry_budget import RetryBudget
from gateway.errors import AttemptTimedOut, EndpointFailure
from gateway.traffic_settings import BalancingSettings, RetrySettings
from loadtests.simulator.events import Events
from loadtests.simulator.policies import Pick
from loadtests.simulator.records import Records
from loadtests.simulator.server_model import Server

TIMEOUT_SECONDS = 10.0
"""From a request's arrival to its deadline: the default of a model's `timeout_seconds`."""


class SimulatedGateway:
    """Sends requests to the endpoints of its subset.

    Args:
        events: simulated time.
        endpoints: of its subset; their load and health as this gateway sees them.
        servers: what stands behind each, by the endpoint's name.
        pick: the policy.
        budget: what retries are paid from; None: there is none, every retry may be made.
        balancing: as in `inferway.yaml`.
        passive_health: which failure ejects.
        retry: as in `inferway.yaml`.
        records: what came of it.
        rng: draws the endpoints.
    """

    __slots__ = (
        "_attempt_timeout_seconds", "_balancing", "_pick", "_rng", "budget", "endpoints", "events",
        "max_attempts", "passive_health", "records", "servers",
    )  # fmt: skip

    def __init__(
        self,
        events: Events,
        *,
        endpoints: Sequence[Endpoint],
        servers: Mapping[str, Server],
        pick: Pick,
        budget: RetryBudget | None,
        balancing: BalancingSettings,
        passive_health: PassiveHealth,
        retry: RetrySettings,
        records: Records,
        rng: Random,
    ) -> None:
        self.events = events
        self.endpoints = endpoints
        self.servers = servers
        self.budget = budget
        self.records = records
        self.passive_health = passive_health
        self.max_attempts = retry.max_attempts
        self._attempt_timeout_seconds = balancing.attempt_timeout_seconds
        self._balancing = balancing
        self._pick = pick
        self._rng = rng

    def request(self) -> None:
        """A client asks."""
        now = self.events.now
        self.records.arrived(now)
        if self.budget:
            self.budget.deposit(now)
        self.send(_Request(self, now))

    def send(self, request: "_Request") -> None:
        """Make one attempt, or end the request where there is nobody to send it to."""
        now = self.events.now
        choice = candidates(self.endpoints, request.excluded, now, panic_ratio=self._balancing.panic_ratio)
        if not choice:
            request.end(is_answered=False)
            return
        endpoint = self._pick(choice, now, self._rng)
        endpoint.in_flight += 1
        attempt = _Attempt(request, endpoint, now)
        self.records.attempted(now)
        limit = min(self._attempt_timeout_seconds, request.deadline - now)
        self.events.plan(now + limit, attempt.timed_out)
        self.servers[endpoint.name].accept(attempt)

    def may_retry(self, failure: type[EndpointFailure]) -> bool:
        """What was never sent is tried again for nothing; else the budget pays."""
        return not failure.was_sent or self.budget is None or self.budget.withdraw(self.events.now)


class _Request:
    """What one client waits for."""

    __slots__ = ("_attempts", "_started", "deadline", "excluded", "gateway")

    def __init__(self, gateway: SimulatedGateway, started: float) -> None:
        self.gateway = gateway
        self._started = started
        self._attempts = 1
        self.deadline = started + TIMEOUT_SECONDS
        self.excluded: frozenset[str] = frozenset()

    def failed(self, endpoint: str, failure: type[EndpointFailure]) -> None:
        """An attempt failed: another, or the end (as `Retry` has it)."""
        gateway = self.gateway
        is_last = self._attempts >= gateway.max_attempts or not failure.retryable
        if gateway.events.now >= self.deadline or is_last or not gateway.may_retry(failure):
            self.end(is_answered=False)
            return
        self._attempts += 1
        self.excluded |= {endpoint}
        gateway.send(self)

    def end(self, *, is_answered: bool) -> None:
        """Tell the client."""
        gateway = self.gateway
        gateway.records.ended(self._started, gateway.events.now, is_answered=is_answered)


class _Attempt:
    """What a server was sent for a request (as `Balancer._attempt` has it)."""

    __slots__ = ("_endpoint", "_is_over", "_request", "_started")

    def __init__(self, request: _Request, endpoint: Endpoint, started: float) -> None:
        self._request = request
        self._endpoint = endpoint
        self._started = started
        self._is_over = False

    def ended(self, failure: type[EndpointFailure] | None) -> None:
        """The server answered, or failed; nobody listens once the attempt has timed out."""
        if self._is_over:
            return
        self._close(failure)
        if failure is None:
            self._request.end(is_answered=True)
        else:
            self._request.failed(self._endpoint.name, failure)

    def timed_out(self) -> None:
        """`attempt_timeout_seconds` have passed; or the request's deadline, for which nobody is blamed."""
        if self._is_over:
            return
        is_late = self._request.gateway.events.now >= self._request.deadline
        self._close(AttemptTimedOut, is_abandoned=is_late)
        self._request.failed(self._endpoint.name, AttemptTimedOut)

    def _close(self, failure: type[EndpointFailure] | None, *, is_abandoned: bool = False) -> None:
        self._is_over = True
        endpoint, gateway = self._endpoint, self._request.gateway
        now = gateway.events.now
        endpoint.in_flight -= 1
        seconds = now - self._started
        if failure is None:
            gateway.passive_health.answered(endpoint, sent=self._started, now=now)
        elif failure.blames_endpoint and not is_abandoned:
            gateway.passive_health.failed(endpoint, gateway.endpoints, sent=self._started, now=now)
        if is_abandoned:
            endpoint.latency.gave_up(seconds, now)
        elif failure is None or seconds > endpoint.latency.at(now):
            endpoint.latency.observe(seconds, now)
