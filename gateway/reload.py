"""Takes a changed configuration without a restart, and without a request that fails.

The new one is built and warmed up beside the one that is served, and takes its place in one step; the old one
answers what it has begun, and is then given up (`Gateway.switch`). What cannot be used changes nothing: what
runs is always one whole file. Envoy warms clusters the same way before it lets them in:
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/cluster_manager#cluster-warming
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from gateway.app import Front, Gateway
from gateway.balancing.balancer import Balancer
from gateway.configuration import ConfigurationError
from gateway.file_watch import FileWatch
from gateway.inference import PoolKey
from gateway.loading import load_settings
from gateway.reload_rules import can_answer, is_as_ready, is_hopeless, required_pools, restart_keys
from gateway.serving import Serving
from gateway.settings import Settings

WATCH_SECONDS = 1.0
"""How often files are looked at; they are read once nothing has changed for so long."""
FILES_PER_SECOND = 500
"""No more are looked at on average: a thousand models have three thousand."""
READY_SECONDS = 0.05
"""How often pools that must be ready are looked at."""
SWITCH_SECONDS = 0.0005
"""How long the thread that builds may keep the interpreter from the event loop: by default it is 5 ms, which
every request in that time would wait, several times over."""
OK, INVALID, RESTART, NOT_READY, FAILED = "ok", "invalid", "restart", "not_ready", "failed"

T = TypeVar("T")
_log = structlog.get_logger()


class _Refused(Exception):
    """A configuration that cannot take over; `result` is what the metric calls it."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result


class Reloads:
    """Reads the configuration again when it is asked to, or when its files have changed.

    Args:
        gateway: what serves it.
        path: of `inferway.yaml`.
    """

    def __init__(self, gateway: Gateway, path: Path) -> None:
        self._gateway = gateway
        self._path = path
        self._asked = asyncio.Event()
        self._turn = asyncio.Lock()
        self._problem = ""
        self._watch = FileWatch([])
        self._watch_files(gateway.front.settings)
        for result in (OK, INVALID, RESTART, NOT_READY, FAILED):
            gateway.metrics.reloads.labels(result)

    def ask(self) -> None:
        """Reload soon, whether or not a file has changed: what SIGHUP does."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever there is reason to, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(WATCH_SECONDS, len(self._watch) / FILES_PER_SECOND)):
                    await self._asked.wait()
            is_watched = self._gateway.front.settings.reload.watch
            if self._asked.is_set() or (is_watched and self._watch.changed()):
                while is_watched and self._watch.changed():  # noqa: ASYNC110 - files tell nobody
                    await asyncio.sleep(WATCH_SECONDS)  # somebody is still writing
                self._asked.clear()
                await self.reload()

    async def must(self) -> None:
        """Reload now, as the admin port asks for it.

        Raises:
            ConfigurationError: it was refused.
        """
        if await self.reload() != OK:
            raise ConfigurationError(self._problem)

    async def reload(self) -> str:
        """Read the configuration, and serve it if it can be; how that went is in the log and the metrics.

        Returns:
            `ok`; or why it was refused: `invalid`, `restart`, `not_ready`, or `failed`, by a fault of the
            gateway itself.
        """
        async with self._turn:
            return await self._reload()

    async def _reload(self) -> str:
        started, metrics = time.monotonic(), self._gateway.metrics
        self._watch.changed()  # what has changed until now is read now, and needs no second look
        try:
            front = await self._started()
        except _Refused as error:
            result, text = error.result, str(error)
            self._problem = text
            _log.error("reload_refused", result=result, problems=text.splitlines())
        except Exception:  # noqa: BLE001 - whatever happened, the old configuration serves on
            result, self._problem = FAILED, "a fault of the gateway itself; its log has it"
            _log.exception("reload_refused", result=result)
        else:
            result = OK
            self._gateway.switch(front)
            self._watch_files(front.settings)
            seconds = round(time.monotonic() - started, 3)
            _log.info("configuration_reloaded", file=str(self._path), duration_seconds=seconds)
        metrics.reloads.labels(result).inc()
        metrics.reload_ok.set(result == OK)
        return result

    async def _started(self) -> Front:
        """The new configuration, started and ready.

        Raises:
            _Refused: it cannot take over.
        """
        old = self._gateway.front
        try:
            settings = await _built(partial(load_settings, self._path))
            self._watch_files(settings)
            if keys := restart_keys(old.settings, settings):
                mend = "cannot change while the gateway runs: restart it, or put the old value back"
                raise _Refused(RESTART, "\n".join(f"{settings.where(*key)}: {mend}" for key in keys))
            front = await _built(partial(self._gateway.prepare, settings))
        except ConfigurationError as error:
            if error.missing is not None:
                self._watch.wait_for(error.missing)
            raise _Refused(INVALID, str(error)) from error
        self._watch_files(settings, front.serving)
        try:
            await front.serving.start()
            await _until_ready(old.serving, front.serving, settings.reload.ready_timeout_seconds)
        except BaseException:
            await front.serving.stop()
            raise
        return front

    def _watch_files(self, settings: Settings, *further: Serving) -> None:
        """Watch the files of the last configuration that could be read, and those of models.

        Args:
            settings: of that configuration.
            further: whose models' files are watched beside those of what is served.
        """
        root = self._gateway.root
        models = [root / name / file for name in settings.models for file in ("model.yaml", "transform.py")]
        files = [file for serving in (self._gateway.serving, *further) for file in serving.files()]
        self._watch.watch([self._path, *models, *files])


async def _built(build: Callable[[], T]) -> T:
    """What `build` makes, in a thread that lets the event loop have the interpreter often."""
    with _frequent_switches():
        return await asyncio.to_thread(build)


@contextlib.contextmanager
def _frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def _until_ready(old: Serving, new: Serving, limit_seconds: float) -> None:
    """Wait until the new configuration can answer what the old one can, for so long at most.

    Raises:
        _Refused: a model would be lost.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_seconds):
            while not all(  # noqa: ASYNC110 - readiness is a fact of many endpoints, not one event
                is_as_ready(new.pools[key], old.pools.get(key)) for key in required_pools(old, new)
            ) and not any(is_hopeless(new.pools[key]) for key in required_pools(old, new)):
                await asyncio.sleep(READY_SECONDS)
    lost = {key: new.pools[key] for key in required_pools(old, new) if not can_answer(new.pools[key])}
    if lost:
        late = f"it is not ready after {limit_seconds:g} s"
        raise _Refused(NOT_READY, "\n".join(_shown(key, pool, late) for key, pool in lost.items()))


def _shown(key: PoolKey, pool: Balancer, late: str) -> str:
    """Why the new configuration loses a pool: a line for each reason that its endpoints give."""
    what = f"model '{key.model}': version {key.version} variant '{key.variant}'"
    reasons = [line for endpoint in pool.endpoints for line in endpoint.problem.splitlines()] or [late]
    return "\n".join(f"{what}: {reason}, and the old configuration answers" for reason in reasons)
