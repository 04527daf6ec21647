"""Routed: finds the pool that serves what Resolved has picked.

Inside of Retry, which may come again for another endpoint; outside of every Balancer.
"""

from collections.abc import Mapping

from gateway.chain import Infer
from gateway.errors import Unavailable
from gateway.inference import InferRequest, InferResponse, PoolKey


class Routed:
    """Sends a request to its pool.

    Args:
        pools: one Infer for each model version and variant.
    """

    def __init__(self, pools: Mapping[PoolKey, Infer]) -> None:
        self._pools = pools

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            Unavailable: no pool is configured for this version and variant.
        """
        pool = self._pools.get(request.pool)
        if pool is None:
            what = f"model '{request.model}' version {request.version} variant '{request.variant}'"
            raise Unavailable(f"no pool serves {what}; see `pools` in inferway.yaml")
        return await pool(request)
