"""A canary at work behind Resolved and in front of a memory tier, over an engine that is a test's."""

from functools import partial
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.caching.memory import MemoryStore
from gateway.catalog import Catalog
from gateway.chain import Infer, chain
from gateway.errors import InferwayError
from gateway.inference import InferRequest, InferResponse, PoolKey, Tensor
from gateway.metrics import Metrics
from gateway.rollouts.canary import Canary
from gateway.rollouts.plans import RolloutPlan
from gateway.rollouts.rollout import Rollout
from gateway.rollouts.rollouts import Rollouts
from gateway.stages.cached import Cached
from gateway.stages.resolved import Resolved
from gateway.traffic_settings import RolloutSettings
from tests.fakes import SUM, FakeClock, a_contract, a_request

STABLE, TRIAL = PoolKey("adder", "1", "fp32"), PoolKey("adder", "2", "fp32")


class Rig:
    """Resolved over a memory tier over an engine; the canary fails while `error` is set."""

    def __init__(self, backend: Infer | None = None, **settings: Any) -> None:
        settings = {"model": "adder", "canary_version": "2", "weight": 1.0, "min_requests": 10, **settings}
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry())
        self.catalog = Catalog({"adder": a_contract()})
        self.ready = True
        plan = RolloutPlan(RolloutSettings(**settings), Canary(STABLE, TRIAL, settings.get("sticky", "none")))
        self.rollouts = Rollouts(
            [plan],
            catalog=self.catalog,
            serves=lambda _: self.serves,
            is_ready=lambda _: self.ready,
            metrics=self.metrics,
            clock=self.clock,
            rng=Random(7),  # noqa: S311
        )
        self.serves = True
        self.error: Exception | None = None
        self.seconds = {"1": 0.1, "2": 0.1}
        self.sent: list[InferRequest] = []
        store = MemoryStore(1024 * 1024)
        cached = partial(
            Cached, store=store, tier="memory", contracts=self.catalog.contracts, metrics=self.metrics
        )
        resolved = partial(
            Resolved, catalog=self.catalog, max_request_bytes=1024, canaries=self.rollouts.canaries
        )
        self.infer = chain(resolved, cached, to=backend or self._engine)
        self._number = 0

    async def _engine(self, request: InferRequest, /) -> InferResponse:
        self.sent.append(request)
        self.clock.now += self.seconds[request.version]
        if self.error is not None and request.version == "2":
            raise self.error
        return InferResponse(request.model, request.version, (SUM,), request.variant)

    async def ask(self, times: int = 1, **changes: Any) -> list[str]:
        """The versions that answer distinct requests; empty for a failure."""
        answered = []
        for _ in range(times):
            self._number += 1
            values = Tensor("values", "INT8", (1, 2), self._number.to_bytes(2, "little"))
            try:
                answered.append((await self.infer(a_request(inputs=(values,), **changes))).version)
            except InferwayError:
                answered.append("")
        return answered

    @property
    def weight(self) -> float:
        return self.canary.weight

    @property
    def canary(self) -> Rollout:
        (canary,) = self.rollouts.canaries.values()
        return canary

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"model": "adder", "label": "", **labels})
