"""Cached: an answer that is known is given without asking anyone.

Used twice: over memory outside of SingleFlight, so that a hit costs no task, and over Redis inside of it, so
that twenty identical requests cost one look-up. Inside of Resolved, which sets the key; outside of everything
that costs backend capacity.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.caching import Store
from gateway.chain import Infer
from gateway.contract import Contract
from gateway.errors import DeadlineExceeded
from gateway.inference import InferRequest, InferResponse
from gateway.metrics import Metrics

TTL_JITTER_RATIO = 0.1
"""At most so much of its time is taken off an answer's, at random: else what was computed together ends
together, and is all computed again in one moment."""


class Cached:
    """Looks an answer up in one tier and keeps there what comes back.

    Args:
        call_next: what it wraps.
        store: the tier.
        tier: its name in metrics and replies: `memory` or `redis`.
        contracts: by model name; they say how long an answer may be kept.
        metrics: counts look-ups, and the time that hits have saved.
        wall_clock: seconds since the epoch, which gateways share as they share Redis.
        clock: seconds, monotonic.
        rng: a number from 0 to 1.
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
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._call_next = call_next
        self._store = store
        self._tier = tier
        self._wall_clock = wall_clock
        self._clock = clock
        self._rng = rng
        self._ttl_seconds = {name: contract.cache.ttl_seconds for name, contract in contracts.items()}
        self._hits = {name: metrics.lookups.labels(name, tier, "hit") for name in contracts}
        self._misses = {name: metrics.lookups.labels(name, tier, "miss") for name in contracts}
        self._saved = {name: metrics.cache_saved.labels(name, tier) for name in contracts}

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            DeadlineExceeded: its deadline passed while the tier was asked.
        """
        if not request.key:
            return await self._call_next(request)
        store, key = self._store, request.key
        known = await (store.get(request.model, key) if store.answers_at_once else self._known(request))
        if known is not None:
            self._hits[request.model].inc()
            self._saved[request.model].inc(known.computed_seconds)
            return known if known.cache == self._tier else replace(known, cache=self._tier)
        self._misses[request.model].inc()
        voids = store.voids
        asked = self._clock()
        response = await self._call_next(request)
        # Stored only under the key of what really answered, and not if answers were voided meanwhile.
        is_its_own = (response.version, response.variant) == (request.version, request.variant)
        if is_its_own and voids == store.voids:
            return await self._keep(request, response, self._clock() - asked)
        return replace(response, cache="miss") if response.cache == "off" else response

    async def _known(self, request: InferRequest) -> InferResponse | None:
        """What the tier has, unless the request's deadline passes before it says so."""
        left = request.deadline - self._clock()
        try:
            async with asyncio.timeout(None if left == math.inf else left):
                return await self._store.get(request.model, request.key)
        except TimeoutError as error:
            raise DeadlineExceeded(f"model '{request.model}': no answer before the deadline") from error

    async def _keep(self, request: InferRequest, response: InferResponse, seconds: float) -> InferResponse:
        """Keep an answer; one from a tier behind this one keeps the end and the cost that it has there."""
        now = self._wall_clock()
        expires_at = response.expires_at
        if expires_at:
            seconds = response.computed_seconds
        else:
            expires_at = now + self._ttl_seconds[request.model] * (1 - TTL_JITTER_RATIO * self._rng())
        if expires_at > now:
            kept = response.cached(self._tier, request.key, expires_at, seconds)
            await self._store.put(request.key, kept, expires_at - now)
        cache = "miss" if response.cache == "off" else response.cache
        return response.cached(cache, response.key, expires_at, seconds)
