"""Active health: asks every endpoint, again and again, whether it would answer now."""

import asyncio
from collections.abc import Iterable

import structlog

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.warm_up import WarmUp
from gateway.inference import PoolKey

_log = structlog.get_logger()

FAILURES_TO_LOSE = 2
"""An endpoint that was ready is lost after so many refusals in a row: one may be a reply that came late on a
busy machine, and passive health sees a real failure sooner anyway."""


class HealthCheck:
    """Keeps `Endpoint.is_ready` true.

    Args:
        interval_seconds: between two questions to one endpoint.
        timeout_seconds: how long an endpoint may take to answer one.
        warm_up: what an endpoint that says ready must do before it takes traffic; false means not yet.
    """

    def __init__(
        self, *, interval_seconds: float, timeout_seconds: float, warm_up: WarmUp | None = None
    ) -> None:
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._warm_up = warm_up
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, pools: Iterable[tuple[PoolKey, Iterable[Endpoint]]]) -> None:
        """Ask every endpoint once, then keep asking until `stop`."""
        pairs = [(pool, endpoint) for pool, endpoints in pools for endpoint in endpoints]
        await asyncio.gather(*(self._ask(pool, endpoint) for pool, endpoint in pairs))
        self._tasks = [asyncio.create_task(self._keep_asking(pool, endpoint)) for pool, endpoint in pairs]

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_asking(self, pool: PoolKey, endpoint: Endpoint) -> None:
        refusals = 0
        while True:
            await asyncio.sleep(self._interval_seconds)
            is_ready = await self._answer(pool, endpoint)
            refusals = 0 if is_ready else refusals + 1
            if is_ready or refusals >= FAILURES_TO_LOSE:
                self._set(pool, endpoint, is_ready=is_ready)

    async def _ask(self, pool: PoolKey, endpoint: Endpoint) -> None:
        self._set(pool, endpoint, is_ready=await self._answer(pool, endpoint))

    async def _answer(self, pool: PoolKey, endpoint: Endpoint) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                is_ready = await endpoint.infer.is_ready(pool.model, pool.version, pool.variant)
            if is_ready and not endpoint.is_ready and self._warm_up is not None:
                return await self._warm_up(pool, endpoint)
            return is_ready  # noqa: TRY300 - every answer of the block belongs to it
        except TimeoutError:
            return False
        except Exception:  # noqa: BLE001 - one broken check must not end the asking, nor keep us from starting
            _log.exception("endpoint_check_failed", endpoint=endpoint.name, model=pool.model)
            return False

    def _set(self, pool: PoolKey, endpoint: Endpoint, *, is_ready: bool) -> None:
        if endpoint.is_ready is not is_ready:
            event = "endpoint_became_ready" if is_ready else "endpoint_lost"
            _log.info(event, endpoint=endpoint.name, model=pool.model, version=pool.version)
        endpoint.is_ready = is_ready
