"""What goes wrong in each simulation, and with which fleets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from loadtests.simulator.fleet import Fleet, FleetRules
from loadtests.simulator.policies import POLICIES

SLOW_RATIO, SLOWDOWN = 0.01, 20.0
MIXED = ((0.25, 2.0), (0.25, 4.0))
"""Share of the endpoints, and how many times slower than the others they are."""
MIXED_LOAD_RATIO = 0.6 * (1 - sum(share * (1 - 1 / slowdown) for share, slowdown in MIXED))
"""As much of what such a pool can answer as in the other scenarios."""
FLAPPING_RATIO, UP_SECONDS, DOWN_SECONDS = 0.05, 2.0, 1.0
ERROR_SECONDS, STALL_SECONDS = (5.0, 25.0), (5.0, 10.0)
"""When all endpoints fail, or stall, and when they are well again."""

SMALL = 20
"""Some simulations are of a fleet that is smaller by this, and longer. It is the same for each gateway and
each endpoint, which know nothing of the rest of the fleet."""
LONG_SECONDS, STORM_HORIZON_SECONDS = 40.0, 40.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation.

    Attributes:
        name: of what goes wrong.
        rules: the fleet.
        disturb: plans what goes wrong; returns the numbers of the endpoints that it concerns.
    """

    name: str
    rules: FleetRules
    disturb: Callable[[Fleet], Sequence[int]]

    @property
    def title(self) -> str:
        """For people to read."""
        budget = "" if self.rules.has_budget else ", no budget"
        return f"{self.name}, {self.rules.policy}{budget}"


def steady(_fleet: Fleet) -> Sequence[int]:
    """All endpoints are equal and well."""
    return ()


def slow(fleet: Fleet) -> Sequence[int]:
    """Some endpoints are slow all the time."""
    chosen = _some(fleet, SLOW_RATIO)
    for number in chosen:
        fleet.servers[number].slowdown = SLOWDOWN
    return chosen


def mixed(fleet: Fleet) -> Sequence[int]:
    """A pool of several engines: half of the endpoints as fast as ever, two quarters slower."""
    count = len(fleet.servers)
    shuffled = fleet.rng.sample(range(count), count)
    chosen: list[int] = []
    for ratio, slowdown in MIXED:
        part = [shuffled.pop() for _ in range(round(count * ratio))]
        for number in part:
            fleet.servers[number].slowdown = slowdown
        chosen += part
    return chosen


def flapping(fleet: Fleet) -> Sequence[int]:
    """Some endpoints go down and come up again, each at moments of its own (exponential times)."""

    def down(number: int) -> None:
        fleet.go_down(number)
        fleet.events.plan(fleet.events.now + fleet.rng.expovariate(1 / DOWN_SECONDS), up, number)

    def up(number: int) -> None:
        fleet.come_up(number)
        when = fleet.events.now + fleet.rng.expovariate(1 / UP_SECONDS)
        if when < fleet.rules.horizon_seconds:
            fleet.events.plan(when, down, number)

    chosen = _some(fleet, FLAPPING_RATIO)
    for number in chosen:
        fleet.events.plan(fleet.rng.expovariate(1 / UP_SECONDS), down, number)
    return chosen


def errors(fleet: Fleet) -> Sequence[int]:
    """For a while every endpoint answers with an error, at once."""

    def switch(is_failing: bool) -> None:
        for server in fleet.servers:
            server.is_failing = is_failing

    return _all_for_a_while(fleet, switch, ERROR_SECONDS)


def stall(fleet: Fleet) -> Sequence[int]:
    """For a while every endpoint is so slow that attempts time out."""

    def switch(is_stalled: bool) -> None:
        for server in fleet.servers:
            server.slowdown = SLOWDOWN if is_stalled else 1.0

    return _all_for_a_while(fleet, switch, STALL_SECONDS)


def all_scenarios(seed: int, shrink: int = 1) -> Iterator[Scenario]:
    """Every simulation of the report, in its order.

    Args:
        seed: of all of them.
        shrink: divides gateways and endpoints.
    """
    for disturb, load_ratio in ((steady, 0.6), (slow, 0.6), (mixed, MIXED_LOAD_RATIO), (flapping, 0.6)):
        for policy in POLICIES:
            rules = FleetRules(policy=policy, load_ratio=load_ratio, seed=seed)
            yield _scenario(disturb, rules, shrink)
    small = max(SMALL, shrink)
    for policy in ("p2c", "least_in_flight"):
        rules = FleetRules(policy=policy, horizon_seconds=LONG_SECONDS / max(1, shrink / SMALL), seed=seed)
        yield replace(_scenario(slow, rules, small), name="slow, long")
    for disturb in (errors, stall):
        for has_budget in (True, False):
            rules = FleetRules(has_budget=has_budget, horizon_seconds=STORM_HORIZON_SECONDS, seed=seed)
            yield _scenario(disturb, rules, small)


def _scenario(disturb: Callable[[Fleet], Sequence[int]], rules: FleetRules, shrink: int) -> Scenario:
    gateways, endpoints = rules.gateways // shrink, rules.endpoints // shrink
    return Scenario(disturb.__name__, replace(rules, gateways=gateways, endpoints=endpoints), disturb)


def _some(fleet: Fleet, ratio: float) -> Sequence[int]:
    count = len(fleet.servers)
    return fleet.rng.sample(range(count), max(1, round(count * ratio)))


def _all_for_a_while(
    fleet: Fleet, switch: Callable[[bool], None], seconds: tuple[float, float]
) -> Sequence[int]:
    begin, end = seconds
    fleet.events.plan(begin, switch, True)
    fleet.events.plan(end, switch, False)
    return ()
