"""Cached: an answer that is known is given without asking anyone.

Used twice: over memory outside of SingleFlight, so that a hit costs no task, and over Redis inside of it, so
that twenty identical requests cost one look-up. Inside of Resolved, which sets the key; outside of everything
that costs backend capacity.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.caching import Store
from gateway.chain import Infer
from gateway.contract import Contract
from gateway.inference import InferRequest, InferResponse
from gateway.metrics import Metrics


class Cached:
    """Looks an answer up in one tier and keeps there what comes back.

    Args:
        call_next: what it wraps.
        store: the tier.
        tier: its name in metrics and replies: `memory` or `redis`.
        contracts: by model name; they say how long an answer may be kept.
        metrics: counts look-ups.
        wall_clock: seconds since the epoch, which gateways share as they share Redis.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        store: Store,
        tier: str,
        contracts: Mapping[str, Contract],
        metrics: Metrics,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._call_next = call_next
        self._store = store
        self._tier = tier
        self._wall_clock = wall_clock
        self._ttl_seconds = {name: contract.cache.ttl_seconds for name, contract in contracts.items()}
        self._hits = {name: metrics.lookups.labels(name, tier, "hit") for name in contracts}
        self._misses = {name: metrics.lookups.labels(name, tier, "miss") for name in contracts}

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request."""
        if not request.key:
            return await self._call_next(request)
        known = await self._store.get(request.model, request.key)
        if known is not None:
            self._hits[request.model].inc()
            return known if known.cache == self._tier else replace(known, cache=self._tier)
        self._misses[request.model].inc()
        voids = self._store.voids
        response = await self._call_next(request)
        # Stored only under the key of what really answered, and not if answers were voided meanwhile.
        is_its_own = (response.version, response.variant) == (request.version, request.variant)
        if is_its_own and voids == self._store.voids:
            return await self._keep(request, response)
        return replace(response, cache="miss") if response.cache == "off" else response

    async def _keep(self, request: InferRequest, response: InferResponse) -> InferResponse:
        """Keep an answer; one that comes from a tier behind this one keeps the end that it has there."""
        now = self._wall_clock()
        expires_at = response.expires_at or now + self._ttl_seconds[request.model]
        if expires_at > now:
            kept = replace(response, expires_at=expires_at, key=request.key, cache=self._tier)
            await self._store.put(request.key, kept, expires_at - now)
        cache = "miss" if response.cache == "off" else response.cache
        return replace(response, expires_at=expires_at, cache=cache)
