"""Active health: asks every endpoint, again and again, whether it would answer now."""

import asyncio
import contextlib
import math
from collections.abc import Iterable

import structlog

from gateway.backends import CannotServe
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.heal import Heal
from gateway.balancing.pace import Pace
from gateway.balancing.warm_up import WarmUp
from gateway.inference import PoolKey

_log = structlog.get_logger()

FAILURES_TO_LOSE = 2
"""An endpoint that was ready is lost after so many refusals in a row: one may be a reply that came late on a
busy machine, and passive health sees a real failure sooner anyway."""

MOST_CHECKS_PER_SECOND = 50.0
"""Of all endpoints of all pools together, which is some hundredths of a core (docs/growth.md): 25 are asked
twice a second each, and a thousand models at one server every 20 seconds. Passive health sees failures
before that. Those that are not ready have as many of their own, so that a few of them are not kept back."""

START_SECONDS = 3.0
"""How long `start` waits for the first answers: one endpoint that is slow to warm up must not keep the
gateway from listening, for there are others."""


class HealthCheck:
    """Keeps `Endpoint.is_ready` true.

    Args:
        interval_seconds: between two questions to one endpoint; longer where there are very many, but not for
            one that has just failed.
        most_per_second: questions to those that are ready and of which there is no news; as many, too, to
            those that are not ready.
        timeout_seconds: how long an endpoint may take to answer one.
        warm_up: what an endpoint that says ready must do before it takes traffic, and what one that has
            failed must do to stay ready.
        heal: mends what can be mended when an endpoint is not ready or fails that.
    """

    def __init__(
        self,
        *,
        interval_seconds: float,
        timeout_seconds: float,
        most_per_second: float = math.inf,
        warm_up: WarmUp | None = None,
        heal: Heal | None = None,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._paces = {is_ready: Pace(interval_seconds, most_per_second) for is_ready in (True, False)}
        self._timeout_seconds = timeout_seconds
        self._warm_up = warm_up
        self._heal = heal
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    async def start(self, pools: Iterable[tuple[PoolKey, Iterable[Endpoint]]]) -> None:
        """Keep asking every endpoint until `stop`; return when all have answered once, or are slow to."""
        answered = [self.watch(pool, endpoint) for pool, endpoints in pools for endpoint in endpoints]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                for event in answered:
                    await event.wait()

    def watch(self, pool: PoolKey, endpoint: Endpoint) -> asyncio.Event:
        """Keep asking an endpoint of this pool, too; the event is set once it has answered."""
        self.unwatch(endpoint)
        answered = asyncio.Event()
        self._tasks[endpoint] = asyncio.create_task(self._keep_asking(pool, endpoint, answered))
        return answered

    def unwatch(self, endpoint: Endpoint) -> None:
        """Ask an endpoint no more."""
        task = self._tasks.pop(endpoint, None)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        """Ask no more."""
        tasks = list(self._tasks.values())
        for endpoint in list(self._tasks):
            self.unwatch(endpoint)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_asking(self, pool: PoolKey, endpoint: Endpoint, answered: asyncio.Event) -> None:
        refusals = 0
        while True:
            is_ready = await self._answer(pool, endpoint)
            refusals = 0 if is_ready else refusals + 1
            if not is_ready and await self._healed(pool, endpoint):
                self._set(pool, endpoint, is_ready=False)  # its model is new: it must warm up
            elif is_ready or refusals >= FAILURES_TO_LOSE:
                self._set(pool, endpoint, is_ready=is_ready)
            answered.set()
            await asyncio.sleep(self._pause(endpoint, refusals))

    def _pause(self, endpoint: Endpoint, refusals: int) -> float:
        """How long until an endpoint that has refused so often in a row is asked again, in seconds."""
        if endpoint.is_ready and (refusals or endpoint.outlier.is_suspect):
            return self._interval_seconds
        return self._paces[endpoint.is_ready].pause(asyncio.get_running_loop().time())

    async def _answer(self, pool: PoolKey, endpoint: Endpoint) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                is_ready = await endpoint.infer.is_ready(pool.model, pool.version, pool.variant)
            endpoint.problem = ""
            if is_ready and self._warm_up is not None:
                if not endpoint.is_ready:
                    return await self._warm_up(pool, endpoint)
                if endpoint.outlier.is_suspect:
                    return await self._warm_up.still_answers(pool, endpoint)
            return is_ready  # noqa: TRY300 - every answer of the block belongs to it
        except TimeoutError:
            return False
        except CannotServe as error:
            self._note(pool, endpoint, str(error))
            return False
        except Exception:  # noqa: BLE001 - one broken check must not end the asking, nor keep us from starting
            _log.exception("endpoint_check_failed", endpoint=endpoint.name, model=pool.model)
            return False

    def _note(self, pool: PoolKey, endpoint: Endpoint, problem: str) -> None:
        """Keep why an endpoint cannot serve, and tell it once."""
        if endpoint.problem != problem:
            lines = problem.splitlines()
            _log.error("endpoint_cannot_serve", endpoint=endpoint.name, **pool._asdict(), problems=lines)
        endpoint.problem = problem

    async def _healed(self, pool: PoolKey, endpoint: Endpoint) -> bool:
        try:
            return self._heal is not None and await self._heal(pool, endpoint)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("endpoint_heal_failed", endpoint=endpoint.name, model=pool.model)
            return False

    def _set(self, pool: PoolKey, endpoint: Endpoint, *, is_ready: bool) -> None:
        if endpoint.is_ready is not is_ready:
            event = "endpoint_became_ready" if is_ready else "endpoint_lost"
            _log.info(event, endpoint=endpoint.name, model=pool.model, version=pool.version)
            if not is_ready or self._warm_up is None:  # else the warm-up has told how fast it is
                endpoint.latency.forget()
        endpoint.is_ready = is_ready
