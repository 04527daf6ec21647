"""Least in flight: the endpoint with the fewest requests sent and unanswered, by lot among equals.

HAProxy's `leastconn` and Envoy's least request over all endpoints. By lot, since the first of equals would
get every request of a pool with little traffic.
"""

from collections.abc import Sequence
from random import Random

from gateway.balancing.endpoint import Endpoint


def pick(candidates: Sequence[Endpoint], _now: float, rng: Random) -> Endpoint:
    """The endpoint for one request.

    Args:
        candidates: at least one.
        rng: draws among equals.
    """
    fewest = min(endpoint.in_flight for endpoint in candidates)
    return rng.choice([endpoint for endpoint in candidates if endpoint.in_flight == fewest])
