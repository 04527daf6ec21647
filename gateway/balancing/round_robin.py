"""Round robin: the endpoint that was picked least recently, by lot among those that never were.

The turn is kept in the endpoints and not as a place in a list, so that it stays right when endpoints come
and go: one that is new, or was away, is picked once and then waits its turn, and makes up for nothing.
"""

import math
from collections.abc import Sequence
from random import Random

from gateway.balancing.endpoint import Endpoint


def pick(candidates: Sequence[Endpoint], now: float, rng: Random) -> Endpoint:
    """The endpoint for one request; it remembers that it was picked.

    Args:
        candidates: at least one.
        now: seconds, monotonic.
        rng: draws among equals.
    """
    longest_ago = min(endpoint.picked_at for endpoint in candidates)
    picked = rng.choice([endpoint for endpoint in candidates if endpoint.picked_at == longest_ago])
    # Later than every other even when the clock stands still between two picks.
    latest = max(endpoint.picked_at for endpoint in candidates)
    picked.picked_at = max(now, math.nextafter(latest, math.inf))
    return picked
