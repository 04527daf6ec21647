"""What the admin port may ask of one gateway process: itself, or the supervisor in its place."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from prometheus_client import generate_latest

from gateway.admin.operations import NotDone
from gateway.admin.overrides import Change, Overrides
from gateway.admin.processes import Answer
from gateway.balancing.endpoint import Endpoint
from gateway.configuration import ConfigurationError, meant
from gateway.errors import InferwayError, NotFound
from gateway.inference import PoolKey
from gateway.serving import Serving
from gateway.stage_chain import Lasting

_UNPROCESSABLE = HTTPStatus.UNPROCESSABLE_ENTITY.value


async def _too_early() -> None:
    raise NotDone(HTTPStatus.SERVICE_UNAVAILABLE, "the gateway has not started; ask again")


@dataclass(slots=True)
class Control:
    """Shows and changes what one process serves.

    Attributes:
        serving: what it serves now.
        is_ready: whether to send requests here.
        lasting: its caches and metrics.
        clock: seconds, monotonic.
        reload: reads the configuration again; raises ConfigurationError. Set by who listens.
    """

    serving: Callable[[], Serving]
    is_ready: Callable[[], bool]
    lasting: Lasting
    clock: Callable[[], float] = time.monotonic
    reload: Callable[[], Awaitable[None]] = field(default=_too_early)
    _overrides: Overrides = field(default_factory=Overrides)
    _overridden: Serving | None = None

    async def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """One question of the admin port; `refused` in the answer is a status and why it was not done.

        Every other answer has the overrides as they are then, and the canaries that were taken back.
        """
        try:
            return await self._said(question)
        except NotFound as error:
            return {"refused": [HTTPStatus.NOT_FOUND, str(error)]}
        except (InferwayError, ConfigurationError, ValueError) as error:
            return {"refused": [_UNPROCESSABLE, str(error)]}
        except NotDone as error:
            return {"refused": [error.status, str(error)]}

    async def _said(self, question: Mapping[str, Any]) -> dict[str, Any]:
        said: dict[str, Any]
        match question["ask"]:
            case "ping":
                said = {"ready": self.is_ready()}
            case "pools":
                said = {"endpoints": self._endpoints()}
            case "rollouts":
                said = {"rollouts": self.serving().rollouts.status()}
            case "change":
                said = {}
                self._check_and_change(Change(**question["change"]))
            case "void_memory":
                said = {"dropped": await self._void_memory(question["model"])}
            case "void_redis":
                said = {"dropped": await self._void_redis(question["model"])}
            case "reload":
                said = {}
                await self.reload()
            case _:  # "overrides", which every answer has
                said = {}
        return {**said, "overrides": self._told(), "rolled_back": self._rolled_back()}

    def change(self, change: Change) -> None:
        """Make a change, and remember it as an override.

        An endpoint need not be there: one that is looked up may be away, or not yet found by this process.

        Raises:
            NotFound: there is no such model, version or canary.
            InvalidRequest: no weight, or no label.
        """
        rollouts = self.serving().rollouts
        match change.action:
            case "drain" | "undrain":
                self.serving().drain(change.name, is_draining=change.action == "drain")
            case "weight":
                rollouts.set_weight(change.name, change.label, float(change.value or 0.0))
            case "label":
                rollouts.set_label(change.name, change.label, str(change.value))
        if self._overridden is not self.serving():
            self._overrides, self._overridden = Overrides(), self.serving()
        self._overrides.add(change)

    def _check_and_change(self, change: Change) -> None:
        """Make a change that an operator asks for: a name that means nothing is to be told."""
        serving = self.serving()
        known = {endpoint.name for endpoint in serving.endpoints()} | serving.drained
        if change.action in {"drain", "undrain"} and change.name not in known:
            mend = meant(change.name, known)
            raise NotDone(HTTPStatus.NOT_FOUND, f"there is no endpoint '{change.name}'; {mend}")
        self.change(change)

    def _told(self) -> list[dict[str, Any]]:
        """The overrides; those of a configuration that is no longer served have ended with it."""
        overrides = Overrides(self._overrides if self._overridden is self.serving() else ())
        for model, label in self._rolled_back():
            overrides.add(Change("weight", model, label, 0.0))
        return [change.to_json() for change in overrides]

    def _rolled_back(self) -> list[tuple[str, str]]:
        """The canaries that this process has taken back by itself, by model and label."""
        canaries = self.serving().rollouts.canaries
        return [whose for whose, canary in canaries.items() if canary.rolled_back]

    def _endpoints(self) -> list[dict[str, Any]]:
        now, serving = self.clock(), self.serving()
        pools = [(key, pool, False) for key, pool in serving.pools.items()]
        pools += [(key, pool, True) for key, pool in serving.shadow_pools()]
        return [
            {**_shown(key, endpoint, now), "shadow": is_shadow}
            for key, pool, is_shadow in pools
            for endpoint in pool.endpoints
        ]

    async def _void_memory(self, model: str) -> int:
        self._check_cached(model)
        if self.lasting.redis is not None:
            await self.lasting.redis.settle()
        return await self.lasting.memory.void(model)

    async def _void_redis(self, model: str) -> int | None:
        self._check_cached(model)
        if self.lasting.redis is None:
            return None
        dropped = await self.lasting.redis.void(model)
        if dropped is None:
            raise NotDone(HTTPStatus.SERVICE_UNAVAILABLE, "Redis does not answer; ask again when it does")
        return dropped

    def _check_cached(self, model: str) -> None:
        contracts = self.serving().catalog.contracts
        if model not in contracts:
            raise NotDone(
                HTTPStatus.NOT_FOUND, f"there is no model '{model}' with a cache; {meant(model, contracts)}"
            )


@dataclass(frozen=True, slots=True)
class OneProcess:
    """A gateway without a supervisor, as the admin port sees it.

    Attributes:
        control: of this process.
        turn: one change at a time.
    """

    control: Control
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _started: float = field(default_factory=time.monotonic)

    async def ask(self, question: Mapping[str, Any]) -> list[Answer]:
        """The answer of the one process that there is."""
        return [await self.ask_first(question)]

    async def ask_first(self, question: Mapping[str, Any]) -> Answer:
        """The same."""
        return Answer(0, await self.control.answer(question))

    async def metrics_page(self) -> bytes:
        """Its metrics in Prometheus' text format; made in a thread, for that of many models takes long."""
        return await asyncio.to_thread(generate_latest, self.control.lasting.metrics.registry)

    async def is_ready(self) -> bool:
        """Whether to send requests here."""
        return self.control.is_ready()

    def states(self) -> list[dict[str, Any]]:
        """This process."""
        up_seconds = round(time.monotonic() - self._started, 3)
        return [
            {"process": 0, "pid": os.getpid(), "state": "serving", "restarts": 0, "up_seconds": up_seconds}
        ]


def _shown(key: PoolKey, endpoint: Endpoint, now: float) -> dict[str, Any]:
    """One endpoint of one pool, for the operator."""
    ejected_seconds = max(0.0, endpoint.outlier.ejected_until - now)
    return {
        "model": key.model,
        "version": key.version,
        "variant": key.variant,
        "endpoint": endpoint.name,
        "backend": endpoint.backend,
        "state": _state(endpoint, now),
        "problem": endpoint.problem,
        "ejected_seconds": round(ejected_seconds, 3),
        "in_flight": endpoint.in_flight,
        "latency_seconds": endpoint.latency.at(now),
        "load": endpoint.load(now),
    }


def _state(endpoint: Endpoint, now: float) -> str:
    if endpoint.is_draining:
        return "draining"
    if not endpoint.is_ready:
        return "not ready"
    if endpoint.outlier.is_ejected(now):
        return "ejected"
    return "on probation" if endpoint.outlier.on_probation else "ready"
