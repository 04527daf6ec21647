"""The policies that are compared: those of the gateway, and chance as the floor of them all."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from gateway.balancing import least_in_flight, p2c, round_robin
from gateway.balancing.endpoint import Endpoint

Pick = Callable[[Sequence[Endpoint], float, Random], Endpoint]


def _by_chance(candidates: Sequence[Endpoint], _now: float, rng: Random) -> Endpoint:
    return candidates[int(rng.random() * len(candidates))]


POLICIES: Mapping[str, Pick] = {
    "p2c": p2c.pick,
    "least_in_flight": least_in_flight.pick,
    "round_robin": round_robin.pick,
    "random": _by_chance,
}
"""By name. `random` is no setting of the gateway."""
