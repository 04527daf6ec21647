"""Power of two choices: the less loaded of two endpoints drawn at random.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001. Two draws come
close to the least loaded of all, without every gateway sending its next request to the same endpoint.
"""

from collections.abc import Sequence
from random import Random

from gateway.balancing.endpoint import Endpoint


def pick(candidates: Sequence[Endpoint], now: float, rng: Random) -> Endpoint:
    """The endpoint for one request.

    Args:
        candidates: at least one.
        now: seconds, monotonic.
        rng: draws the two.
    """
    if len(candidates) == 1:
        return candidates[0]
    first, second = rng.sample(candidates, 2)
    return second if second.load(now) < first.load(now) else first
