"""Power of two choices: the less loaded of two endpoints drawn at random.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001. Two draws come
close to the least loaded of all, without every gateway sending its next request to the same endpoint.

Two are all that it looks at, so a large pool need not be walked for each request: `draw` draws from all of
its endpoints until it has two that are available, and gives up after some (Finagle's `P2CBalancer` has
`maxEffort` for that). Every pair of those that are available is then as likely as any other, as it is when
`pick` samples the candidates.
"""

from collections.abc import Sequence
from random import Random

from gateway.balancing.endpoint import Endpoint

MOST_DRAWS = 10
"""With half of a pool away, one request in a hundred has not found two by then."""


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
    return _less_loaded(first, second, now)


def draw(endpoints: Sequence[Endpoint], excluded: frozenset[str], now: float, rng: Random) -> Endpoint | None:
    """What `pick` would pick among the candidates of a pool whose `panic_ratio` is 0, found without a walk.

    Args:
        endpoints: of the pool.
        excluded: names of those where this request has failed.
        now: seconds, monotonic.
        rng: draws them.

    Returns:
        None when chance did not find two that are available, or none of the pool is well.
    """
    first: Endpoint | None = None
    for _ in range(MOST_DRAWS):
        endpoint = endpoints[int(rng.random() * len(endpoints))]
        if endpoint is first or endpoint.name in excluded or not endpoint.is_available(now):
            continue
        if first is not None:
            is_any_well = _is_well(first) or _is_well(endpoint) or any(map(_is_well, endpoints))
            return _less_loaded(first, endpoint, now) if is_any_well else None
        first = endpoint
    return None


def _is_well(endpoint: Endpoint) -> bool:
    return endpoint.is_ready and not endpoint.is_draining and not endpoint.outlier.on_probation


def _less_loaded(first: Endpoint, second: Endpoint, now: float) -> Endpoint:
    return second if second.load(now) < first.load(now) else first
