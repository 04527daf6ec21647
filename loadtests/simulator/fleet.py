"""All gateways, all endpoints and the clients of one simulation."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import cast

from gateway.backends import Backend
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.health_check import FAILURES_TO_LOSE
from gateway.balancing.outlier import Outlier, OutlierRules
from gateway.balancing.passive_health import PassiveHealth
from gateway.balancing.peak_ewma import PeakEwma
from gateway.balancing.retry_budget import RetryBudget
from gateway.balancing.success_ratio import AnswerCounts
from gateway.traffic_settings import BalancingSettings, RetrySettings
from loadtests.simulator.events import Events
from loadtests.simulator.gateway_model import SimulatedGateway
from loadtests.simulator.policies import POLICIES
from loadtests.simulator.records import Records
from loadtests.simulator.server_model import Server, ServerRules
from loadtests.simulator.subsetting import subset


@dataclass(frozen=True, slots=True)
class FleetRules:
    """One simulation.

    Attributes:
        policy: a name of `POLICIES`.
        gateways: how many.
        endpoints: how many.
        subset: endpoints that each gateway knows.
        load_ratio: requests that arrive, as a share of what all endpoints together can answer.
        horizon_seconds: clients ask for so long; then all that is under way ends.
        warm_up_seconds: how much of that is left out of the latencies.
        has_budget: whether retries are paid from a budget.
        server: how each endpoint works.
        balancing: the gateways' settings.
        retry: the gateways' settings.
        seed: of all that is drawn.
    """

    policy: str = "p2c"
    gateways: int = 1000
    endpoints: int = 10_000
    subset: int = 20
    load_ratio: float = 0.6
    horizon_seconds: float = 3.0
    warm_up_seconds: float = 1.0
    has_budget: bool = True
    server: ServerRules = field(default_factory=ServerRules)
    balancing: BalancingSettings = field(default_factory=BalancingSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    seed: int = 1

    @property
    def requests_per_second(self) -> float:
        """Of all clients together."""
        capacity = self.endpoints * self.server.workers / self.server.service_seconds
        return self.load_ratio * capacity


class Fleet:
    """The parts of one simulation, put together; `run` runs it.

    Args:
        rules: what it is made of.

    Attributes:
        events: simulated time; a scenario plans what goes wrong.
        servers: the endpoints' replicas.
        records: what came of it.
        views: how each gateway that knows it sees an endpoint, by the endpoint's number.
        rng: for the scenario's own draws.
    """

    def __init__(self, rules: FleetRules) -> None:
        self.rules = rules
        self.events = Events()
        self.records = Records(rules.horizon_seconds, rules.warm_up_seconds)
        self.rng = Random(f"{rules.seed}/scenario")
        self._clients = Random(f"{rules.seed}/clients")
        work = Random(f"{rules.seed}/work")
        self.servers = [Server(self.events, rules.server, work) for _ in range(rules.endpoints)]
        self.views: defaultdict[int, list[Endpoint]] = defaultdict(list)
        named = {str(number): server for number, server in enumerate(self.servers)}
        self._gateways = [self._gateway(number, named) for number in range(rules.gateways)]

    def run(self) -> None:
        """Until every request has ended."""
        self._plan_next_request()
        self.events.run()

    def go_down(self, number: int) -> None:
        """An endpoint's replica goes down, and each gateway's readiness check finds out in its own time."""
        self.servers[number].go_down()
        interval = self.rules.balancing.ready_interval_seconds
        for endpoint in self.views[number]:
            refusals = FAILURES_TO_LOSE - 1 + self.rng.random()
            self.events.plan(self.events.now + refusals * interval, self._check, number, endpoint)

    def come_up(self, number: int) -> None:
        """It is back, which each gateway's next readiness check tells it."""
        self.servers[number].come_up()
        interval = self.rules.balancing.ready_interval_seconds
        for endpoint in self.views[number]:
            self.events.plan(self.events.now + self.rng.random() * interval, self._check, number, endpoint)

    def _check(self, number: int, endpoint: Endpoint) -> None:
        endpoint.is_ready = self.servers[number].is_up

    def _plan_next_request(self) -> None:
        when = self.events.now + self._clients.expovariate(self.rules.requests_per_second)
        if when < self.rules.horizon_seconds:
            self.events.plan(when, self._request)

    def _request(self) -> None:
        self._gateways[int(self._clients.random() * len(self._gateways))].request()
        self._plan_next_request()

    def _gateway(self, number: int, servers: Mapping[str, Server]) -> SimulatedGateway:
        rules, balancing = self.rules, self.rules.balancing
        numbers = subset(number, endpoints=rules.endpoints, size=rules.subset, seed=rules.seed)
        retry = rules.retry
        budget = RetryBudget(ratio=retry.budget_ratio, floor_per_second=retry.budget_floor_per_second)
        return SimulatedGateway(
            self.events,
            endpoints=self._endpoints(numbers),
            servers=servers,
            pick=POLICIES[rules.policy],
            budget=budget if rules.has_budget else None,
            balancing=balancing,
            passive_health=PassiveHealth(
                margin_ratio=balancing.outlier_margin_ratio,
                min_requests=balancing.outlier_min_requests,
                max_ejected_ratio=balancing.max_ejected_ratio,
            ),
            retry=retry,
            records=self.records,
            rng=Random(f"{rules.seed}/gateway/{number}"),
        )

    def _endpoints(self, numbers: Sequence[int]) -> list[Endpoint]:
        """One gateway's view of its endpoints."""
        balancing = self.rules.balancing
        outlier = OutlierRules(
            balancing.consecutive_failures,
            balancing.ejection_seconds,
            balancing.max_ejection_seconds,
            balancing.outlier_window_seconds,
        )
        found = []
        for number in numbers:
            endpoint = Endpoint(
                str(number),
                "simulated",
                cast("Backend", None),  # a simulated gateway finds the server by the endpoint's name
                PeakEwma(balancing.latency_decay_seconds),
                Outlier(outlier),
                AnswerCounts(balancing.outlier_window_seconds),
                is_ready=True,
            )
            self.views[number].append(endpoint)
            found.append(endpoint)
        return found
