"""Heals what a backend can mend: a model that its server thinks ready, and that answers nothing."""

import time
from collections.abc import Callable

import structlog

from gateway.backends import Heals
from gateway.balancing.endpoint import Endpoint
from gateway.inference import PoolKey
from gateway.metrics import Metrics

INTERVAL_SECONDS = 5.0
"""The least time between two heals of an endpoint's model: a model that dies while it loads, or at its first
request, must not be loaded in a loop, which takes the server's other models' time."""

HEALED, FAILED = RESULTS = "healed", "failed"

_log = structlog.get_logger()


class Heal:
    """Heals an endpoint's model, now and then.

    Args:
        metrics: counts what came of it.
        clock: seconds, monotonic.
    """

    def __init__(self, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._heals = metrics.heals
        self._clock = clock

    async def __call__(self, pool: PoolKey, endpoint: Endpoint, /) -> bool:
        """Whether the endpoint's model was healed just now, so that it is as new."""
        before, now = endpoint.healed_at, self._clock()
        if not isinstance(endpoint.infer, Heals) or now < before + INTERVAL_SECONDS:
            return False
        endpoint.healed_at = now
        healed = await endpoint.infer.heal(pool.model, pool.variant)
        if healed is None:
            endpoint.healed_at = before
            return False
        result = HEALED if healed else FAILED
        _log.warning("endpoint_heal_ended", endpoint=endpoint.name, model=pool.model, result=result)
        labels = (endpoint.name, pool.model, pool.version, pool.variant, endpoint.backend)
        self._heals.labels(*labels, result).inc()
        return healed
