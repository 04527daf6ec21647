"""Warm-up: an endpoint answers the model's example before it takes traffic.

A server that says ready may be cold (a JVM that has compiled nothing, a runtime that sets itself up in its
first inference) or may not be able to answer at all. Its first answers, seconds late, would be clients'
answers, and peak EWMA would then keep clients away from it for long.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence

import structlog

from gateway.balancing.endpoint import Endpoint
from gateway.errors import InferwayError
from gateway.inference import InferRequest, PoolKey, Tensor

WARM_UP_REQUESTS = 32
"""So many that a cold TorchServe, whose first answers took a second, answers as fast as the others."""

_log = structlog.get_logger()


class WarmUp:
    """Sends the example of an endpoint's model, again and again.

    Args:
        examples: the input tensors, by the model's name; a model without an example is not warmed up.
        timeout_seconds: for all of the requests together.
    """

    def __init__(self, examples: Mapping[str, Sequence[Tensor]], *, timeout_seconds: float) -> None:
        self._examples = examples
        self._timeout_seconds = timeout_seconds

    async def __call__(self, pool: PoolKey, endpoint: Endpoint, /) -> bool:
        """Whether the endpoint answered every time."""
        inputs = self._examples.get(pool.model)
        if not inputs:
            return True
        request = InferRequest(
            pool.model, tuple(inputs), math.inf, version=pool.version, variant=pool.variant
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for _ in range(WARM_UP_REQUESTS):
                    await endpoint.infer(request)
        except (InferwayError, TimeoutError) as error:
            _log.info(
                "warm_up_failed", endpoint=endpoint.name, model=pool.model, error=str(error) or "timeout"
            )
            return False
        return True
