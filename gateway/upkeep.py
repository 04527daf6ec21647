"""What is seen to every second: whether each Redis answers, and whether files have changed."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from gateway.redis_link import RedisLink

_log = structlog.get_logger()

EVERY_SECONDS = 1.0


class Upkeep:
    """Runs in the background from `start` to `stop`.

    Args:
        links: each is pinged, so that its metric is true while there is no traffic.
        refreshes: each reads its files again if they have changed; what goes wrong is logged.
    """

    def __init__(self, links: Sequence[RedisLink], refreshes: Sequence[Callable[[], None]]) -> None:
        self._links = links
        self._refreshes = refreshes
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if there is anything to see to."""
        if self._links or self._refreshes:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            for refresh in self._refreshes:
                try:
                    refresh()
                except Exception:  # noqa: BLE001 - one file's trouble must not end the look at all others
                    _log.exception("refresh_failed")
            await asyncio.gather(*(link.ping() for link in self._links))
            await asyncio.sleep(EVERY_SECONDS)
