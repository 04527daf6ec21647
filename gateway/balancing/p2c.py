"""Power of two choices: the less loaded of two endpoints drawn at random.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001. Two draws come
close to the least loaded of all, without every gateway sending its next request to the same endpoint.
"""

from collections.abc import Sequence
from random import Random

from gateway.balancing.endpoint import Endpoint


def pick(endpoints: Sequence[Endpoint], excluded: frozenset[str], now: float, rng: Random) -> Endpoint | None:
    """The endpoint for one request, or None when none is left.

    Args:
        endpoints: of the pool.
        excluded: names of those where this request has failed.
        now: seconds, monotonic.
        rng: draws the two.
    """
    candidates = [e for e in endpoints if e.name not in excluded and e.is_available(now)]
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    first, second = rng.sample(candidates, 2)
    return second if second.load(now) < first.load(now) else first
