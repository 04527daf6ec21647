"""Routed: finds the pool that serves what Resolved has picked, and lets its shadows see what it answered.

Inside of Retry, which may come again for another endpoint; outside of every Balancer.
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from gateway.chain import Infer
from gateway.errors import Unavailable
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.rollouts.shadow import Shadow

NO_SHADOWS: Mapping[PoolKey, Sequence[Shadow]] = {}


class Routed:
    """Sends a request to its pool.

    Args:
        pools: one Infer for each model version and variant.
        shadows: what is offered the pool's answers, where there is any.
    """

    def __init__(
        self, pools: Mapping[PoolKey, Infer], shadows: Mapping[PoolKey, Sequence[Shadow]] = NO_SHADOWS
    ) -> None:
        self._pools = pools
        self._shadows = shadows

    def __call__(self, request: InferRequest, /) -> Coroutine[Any, Any, InferResponse]:
        """Answer one request.

        Raises:
            Unavailable: no pool is configured for this version and variant.
        """
        pool = self._pools.get(request.pool)
        if pool is None:
            what = f"model '{request.model}' version {request.version} variant '{request.variant}'"
            raise Unavailable(f"no pool serves {what}; see `pools` in inferway.yaml")
        shadows = self._shadows.get(request.pool)
        return _shadowed(pool, shadows, request) if shadows else pool(request)


async def _shadowed(pool: Infer, shadows: Sequence[Shadow], request: InferRequest) -> InferResponse:
    response = await pool(request)
    for shadow in shadows:
        shadow.offer(request, response)
    return response
