"""The composition root: what a process keeps, and the configuration that it serves (`gateway/serving.py`)."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway.access import Access, open_access
from gateway.admin.app import admin_app
from gateway.admin.operations import Operations
from gateway.caching.memory import MemoryStore
from gateway.caching.recall import Recall
from gateway.caching.redis import RedisStore
from gateway.control import Control, OneProcess
from gateway.http_app import http_app
from gateway.listener_tls import ListenerTls
from gateway.metrics import Metrics
from gateway.protocols import grpc_health, grpc_reflection, oip_grpc, tfserving_grpc, torchserve_grpc
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_answer import GrpcAnswers
from gateway.protocols.grpc_keys import GrpcKeys
from gateway.protocols.grpc_methods import Methods
from gateway.protocols.latest import LatestHttp
from gateway.redis_link import RedisLink, open_link
from gateway.serving import Serving, build_serving
from gateway.settings import Settings
from gateway.stage_chain import Lasting
from gateway.stages.measured import Measured
from gateway.trace_export import exported
from gateway.upkeep import Upkeep

RECALL_DIVISOR = 4
"""This part of the cache's memory is for replies as they were encoded, the rest for the answers."""
RETIRE_SECONDS = 0.1
"""How often a configuration that was replaced is asked whether its last request has been answered."""


@dataclass(frozen=True, slots=True)
class Front:
    """One configuration as clients meet it.

    Attributes:
        settings: that it was built from.
        serving: the models, pools and chain.
        edge: what the protocols have of it.
        http: the routes of the HTTP port.
        grpc: the methods of every gRPC service, of their health and of reflection.
    """

    settings: Settings
    serving: Serving
    edge: Edge
    http: FastAPI
    grpc: Methods


class Gateway:
    """A gateway that is built; `async with` starts what runs in the background, and stops it.

    Args:
        settings: checked in themselves.
        root: what the model folders and the embedded engine's repository are relative to.

    Attributes:
        metrics: of this process.
        http: the app of the HTTP port.
        grpc: answers the calls of the gRPC port.
        admin: the app of the admin port, of a gateway that is one process.
        control: what the admin port may ask of this process.
        front: the configuration that is served.
        tls: of the HTTP and gRPC ports; None where they listen in the clear.

    Raises:
        ConfigurationError: a pool and a contract do not fit, or a model was not built.
    """

    def __init__(self, settings: Settings, root: Path) -> None:
        metrics = self.metrics = Metrics(CollectorRegistry())
        self.root = root
        self.tls = ListenerTls(settings.server.tls, root) if settings.server.tls.certificate else None
        link = open_link(
            settings.cache.redis, root, purpose="cache", up=metrics.redis_up, registry=metrics.registry
        )
        self._recall_bytes = (
            settings.cache.memory_bytes // RECALL_DIVISOR if not settings.tracing.otlp_endpoint else 0
        )
        memory = MemoryStore(settings.cache.memory_bytes - self._recall_bytes)
        metrics.cache_bytes.set_function(self._cache_bytes)
        self._redis = RedisStore(link, metrics) if link else None
        access = open_access(settings, root, metrics)
        self._lasting = Lasting(metrics, memory, self._redis, access, exported(settings.tracing))
        serving = build_serving(settings, root, self._lasting)
        edge = Edge(
            infer=serving.infer,
            catalog=serving.catalog,
            is_ready=serving.is_ready,
            measured=Measured(metrics, serving.catalog),
            max_request_bytes=settings.server.max_request_bytes,
            access=access,
            tracing=self._lasting.tracing,
            recall=self._recall(serving),
            newest=lambda: self.front.edge,
        )
        self.front = _front(settings, serving, edge)
        self.http = LatestHttp(lambda: self.front.http)
        self.grpc = GrpcAnswers(lambda: self.front.grpc, edge, GrpcKeys(access, edge) if access else None)
        self.control = Control(lambda: self.serving, lambda: self.edge.ready, self._lasting)
        self.admin = admin_app(Operations(OneProcess(self.control)), settings.server.admin_writes)
        self._retiring: dict[asyncio.Task[None], Front] = {}
        metrics.requests_in_flight.set_function(self._in_flight)
        self._upkeep = self._seen_to(link, access)
        self._taken()

    @property
    def edge(self) -> Edge:
        """Of the configuration that is served."""
        return self.front.edge

    @property
    def serving(self) -> Serving:
        """The configuration that is served."""
        return self.front.serving

    def prepare(self, settings: Settings) -> Front:
        """Another configuration, beside the one that is served: not started. May run in a thread.

        Raises:
            ConfigurationError: as for the first one.
        """
        serving = build_serving(settings, self.root, self._lasting, self.serving)
        edge = replace(
            self.edge,
            infer=serving.infer,
            catalog=serving.catalog,
            is_ready=serving.is_ready,
            measured=Measured(self.metrics, serving.catalog),
            recall=self._recall(serving),
        )
        return _front(settings, serving, edge)

    def switch(self, front: Front) -> None:
        """Serve a configuration that has been started; the one before it ends with its last request."""
        old, self.front = self.front, front
        old.serving.withdraw(front.serving)
        self._taken()
        task = asyncio.create_task(self._retire(old))
        self._retiring[task] = old
        task.add_done_callback(self._retiring.pop)

    async def __aenter__(self) -> Self:
        await self.serving.start()
        self._upkeep.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upkeep.stop()
        for task in (retiring := list(self._retiring)):
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        await self.serving.stop()
        if self.edge.access is not None:
            await self.edge.access.aclose()
        if self._redis is not None:
            await self._redis.aclose()
        if self.edge.tracing is not None:
            await self.edge.tracing.aclose()

    def _taken(self) -> None:
        self.serving.publish()
        self.metrics.configuration_loaded.set_to_current_time()
        self.metrics.reload_ok.set(1)

    async def _retire(self, old: Front) -> None:
        try:
            await asyncio.sleep(RETIRE_SECONDS)  # first: a request may have begun that is not counted yet
            while old.edge.measured.in_flight:  # noqa: ASYNC110 - to set an event would cost each request
                await asyncio.sleep(RETIRE_SECONDS)
        finally:
            await old.serving.stop()

    def _in_flight(self) -> float:
        fronts = (self.front, *self._retiring.values())
        return sum(front.edge.measured.in_flight for front in fronts)

    def _recall(self, serving: Serving) -> Recall[Any] | None:
        """Of one configuration. Not while requests are traced: each is to have the spans of its stages."""
        if not self._recall_bytes:
            return None
        canaries = serving.rollouts.canaries
        models = [
            name
            for name, contract in serving.catalog.contracts.items()
            if contract.cache.enabled and (name, "") not in canaries  # a label is never recalled
        ]
        hits = {name: self.metrics.lookups.labels(name, "memory", "hit") for name in models}
        saved = {name: self.metrics.cache_saved.labels(name, "memory") for name in models}
        return Recall(self._lasting.memory, self._recall_bytes, hits, saved)

    def _cache_bytes(self) -> int:
        recall = self.edge.recall
        return self._lasting.memory.size_bytes + (recall.size_bytes if recall else 0)

    def _refresh_channels(self) -> None:
        self.serving.refresh_channels()

    def _seen_to(self, cache: RedisLink | None, access: Access | None) -> Upkeep:
        """Every Redis there is, and every file that may be renewed."""
        links = [*([cache] if cache else []), *(access.links if access else ())]
        refreshes = [self._refresh_channels]
        if self.tls is not None:
            refreshes.append(self.tls.refresh)
        if access is not None:
            refreshes.append(access.keyring.refresh)
        return Upkeep(links, refreshes)


def build(settings: Settings, root: Path) -> Gateway:
    """Everything, from the settings; nothing is started or connected. Arguments and errors are Gateway's."""
    return Gateway(settings, root)


def _front(settings: Settings, serving: Serving, edge: Edge) -> Front:
    services = (oip_grpc.SERVICE, tfserving_grpc.PREDICTION_SERVICE, tfserving_grpc.MODEL_SERVICE)
    methods = {
        **oip_grpc.methods(edge),
        **tfserving_grpc.methods(edge),
        **torchserve_grpc.methods(edge),
        **grpc_health.methods(edge, *services, torchserve_grpc.SERVICE),
        **grpc_reflection.methods(),
    }
    return Front(settings, serving, edge, http_app(edge), methods)
