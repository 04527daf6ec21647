"""The composition root: builds the chain top to bottom; the only module that knows all others."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from random import SystemRandom
from typing import Self

import grpc
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from gateway import __version__
from gateway.admin import admin_app
from gateway.backends import Backend
from gateway.backends.onnxruntime import OnnxRuntime
from gateway.backends.open_inference import OpenInference
from gateway.backends.repository import check_built
from gateway.backends.tfserving import TFServing
from gateway.backends.torchserve import TorchServe
from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.health_check import HealthCheck
from gateway.balancing.outlier import Outlier, OutlierRules
from gateway.balancing.peak_ewma import PeakEwma
from gateway.balancing.retry_budget import RetryBudget
from gateway.balancing.warm_up import WarmUp
from gateway.caching.memory import MemoryStore
from gateway.caching.redis import RedisStore
from gateway.catalog import Catalog
from gateway.chain import Infer, Stage, chain
from gateway.contract import Contract
from gateway.inference import PoolKey
from gateway.loading import load_contracts
from gateway.metrics import Metrics
from gateway.pools import pool_endpoints
from gateway.protocols import (
    oip_grpc,
    oip_http,
    tfserving_grpc,
    tfserving_http,
    torchserve_grpc,
    torchserve_http,
)
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_health import health_handler
from gateway.protocols.openapi import document
from gateway.settings import BalancingSettings, EndpointSettings, Settings
from gateway.stages.cached import Cached
from gateway.stages.measured import Measured
from gateway.stages.resolved import Resolved
from gateway.stages.retry import Retry
from gateway.stages.routed import Routed
from gateway.stages.single_flight import SingleFlight
from gateway.transforms import example_inputs, load_transform


@dataclass(slots=True)
class Gateway:
    """A gateway that is built; `async with` starts what runs in the background, and stops it.

    Attributes:
        edge: the chain and what the protocols need beside it.
        metrics: of this process.
        http: the app of the HTTP port.
        admin: the app of the admin port.
        pools: by what they serve.
    """

    edge: Edge
    metrics: Metrics
    http: FastAPI
    admin: FastAPI
    pools: Mapping[PoolKey, Balancer]
    _health: HealthCheck
    _backends: Sequence[Backend]
    _redis: RedisStore | None
    _pinging: asyncio.Task[None] | None = None

    def grpc_handlers(self) -> list[grpc.GenericRpcHandler]:
        """Every gRPC service, by the names that clients call, and their health."""
        services = (oip_grpc.SERVICE, tfserving_grpc.PREDICTION_SERVICE, tfserving_grpc.MODEL_SERVICE)
        modules = (oip_grpc, tfserving_grpc, torchserve_grpc)
        handlers = [handler for module in modules for handler in module.handlers(self.edge)]
        return [*handlers, health_handler(self.edge, *services, torchserve_grpc.SERVICE)]

    async def __aenter__(self) -> Self:
        await self._health.start((key, pool.endpoints) for key, pool in self.pools.items())
        if self._redis is not None:
            self._pinging = asyncio.create_task(_keep_pinging(self._redis))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._health.stop()
        if self._pinging is not None:
            self._pinging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pinging
        if self._redis is not None:
            await self._redis.aclose()
        for backend in self._backends:
            await backend.aclose()


def build(settings: Settings, root: Path) -> Gateway:
    """Everything, from the settings; nothing is started or connected.

    Args:
        settings: checked in themselves.
        root: what the model folders and the embedded engine's repository are relative to.

    Raises:
        ConfigurationError: a pool and a contract do not fit, or a model was not built.
    """
    contracts = load_contracts(settings, root)
    catalog = _catalog(settings, contracts)
    metrics = Metrics(CollectorRegistry())
    backends = {
        name: _backend(endpoint, contracts, settings.server.max_request_bytes, root)
        for name, endpoint in settings.endpoints.items()
    }
    endpoints = pool_endpoints(settings, contracts)
    check_built(settings, contracts, endpoints, root)
    pools = {key: _balancer(key, names, backends, settings, metrics) for key, names in endpoints.items()}
    redis = _redis(settings, metrics)
    edge = Edge(
        infer=_chain(settings, catalog, metrics, pools, redis),
        catalog=catalog,
        is_ready=partial(_is_ready, catalog, pools),
        measured=Measured(metrics, catalog),
        max_request_bytes=settings.server.max_request_bytes,
    )
    balancing = settings.balancing
    examples = {
        name: example_inputs(contract, catalog.transforms.get(name)) for name, contract in contracts.items()
    }
    health = HealthCheck(
        interval_seconds=balancing.ready_interval_seconds,
        timeout_seconds=balancing.ready_timeout_seconds,
        warm_up=WarmUp(examples, timeout_seconds=balancing.warm_up_timeout_seconds),
    )
    return Gateway(
        edge,
        metrics,
        _http_app(edge),
        admin_app(edge, metrics),
        pools,
        health,
        list(backends.values()),
        redis,
    )


def _chain(
    settings: Settings,
    catalog: Catalog,
    metrics: Metrics,
    pools: Mapping[PoolKey, Balancer],
    redis: RedisStore | None,
) -> Infer:
    """The stages in the order in which a request meets them; the docstring of each says why there."""
    contracts = catalog.contracts
    memory = MemoryStore(settings.cache.memory_bytes)
    metrics.cache_bytes.set_function(lambda: memory.size_bytes)
    retry = settings.retry
    new_budget = partial(
        RetryBudget, ratio=retry.budget_ratio, floor_per_second=retry.budget_floor_per_second
    )
    redis_tier: list[Stage] = []
    if redis is not None:
        redis_tier = [partial(Cached, store=redis, tier="redis", contracts=contracts, metrics=metrics)]
    return chain(
        partial(Resolved, catalog=catalog, max_request_bytes=settings.server.max_request_bytes),
        partial(Cached, store=memory, tier="memory", contracts=contracts, metrics=metrics),
        partial(SingleFlight, contracts=contracts, metrics=metrics),
        *redis_tier,
        partial(Retry, new_budget=new_budget, max_attempts=retry.max_attempts, metrics=metrics),
        to=Routed(pools),
    )


def _http_app(edge: Edge) -> FastAPI:
    app = FastAPI(
        title="Inferway",
        summary="One gateway, every inference protocol.",
        version=__version__,
        docs_url=None,  # FastAPI's pages load their scripts from another site; /openapi.json is served
        redoc_url=None,
    )
    routes = [*oip_http.routes(edge), *tfserving_http.routes(edge), *torchserve_http.routes(edge)]
    app.router.routes.extend(routes)
    document(app, routes)
    app.add_exception_handler(HTTPException, _no_such_route)
    return app


async def _no_such_route(request: Request, error: Exception) -> Response:
    """A path or a method that no protocol has: in TorchServe's form, or in that of OIP and TF Serving."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    body: object = {"error": error.detail}
    if request.url.path.startswith(torchserve_http.PATHS):
        is_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        body = torchserve_http.NOT_ALLOWED if is_method else torchserve_http.NOT_FOUND
    return JSONResponse(body, error.status_code, error.headers)


def _catalog(settings: Settings, contracts: Mapping[str, Contract]) -> Catalog:
    loaded = {name: load_transform(contract.folder) for name, contract in contracts.items()}
    return Catalog(
        contracts,
        transforms={name: transform for name, transform in loaded.items() if transform is not None},
        passthrough=frozenset(entry.model for entry in settings.passthrough),
    )


def _backend(
    settings: EndpointSettings, contracts: Mapping[str, Contract], max_bytes: int, root: Path
) -> Backend:
    address = settings.address or ""
    match settings.backend:
        case "onnxruntime":
            repository = root / (settings.repository or "")
            return OnnxRuntime(contracts, repository=repository, threads=settings.threads)
        case "triton":
            return OpenInference(address, contracts=contracts, max_request_bytes=max_bytes)
        case "tfserving":
            return TFServing(address, contracts=contracts, max_request_bytes=max_bytes)
        case "torchserve":
            management = settings.management_address or ""
            return TorchServe(
                address, management_address=management, contracts=contracts, max_request_bytes=max_bytes
            )


def _balancer(
    key: PoolKey,
    names: Sequence[str],
    backends: Mapping[str, Backend],
    settings: Settings,
    metrics: Metrics,
) -> Balancer:
    balancing = settings.balancing
    endpoints = [_endpoint(name, settings, backends[name], balancing) for name in names]
    return Balancer(
        endpoints,
        pool=key,
        attempt_timeout_seconds=balancing.attempt_timeout_seconds,
        metrics=metrics,
        rng=SystemRandom(),
    )


def _endpoint(name: str, settings: Settings, backend: Backend, balancing: BalancingSettings) -> Endpoint:
    rules = OutlierRules(
        balancing.consecutive_failures, balancing.ejection_seconds, balancing.max_ejection_seconds
    )
    latency = PeakEwma(balancing.latency_decay_seconds)
    return Endpoint(name, settings.endpoints[name].backend, backend, latency, Outlier(rules))


def _redis(settings: Settings, metrics: Metrics) -> RedisStore | None:
    redis = settings.cache.redis
    if not redis.url:
        return None
    return RedisStore(
        redis.url,
        timeout_seconds=redis.timeout_seconds,
        retry_after_seconds=redis.retry_after_seconds,
        up=metrics.redis_up,
    )


def _is_ready(catalog: Catalog, pools: Mapping[PoolKey, Balancer], model: str, version: str) -> bool:
    """Whether the default variant of a model's version has an endpoint that takes traffic."""
    contract = catalog.contracts.get(model)
    variant = contract.versions[version].default_variant if contract else ""
    pool = pools.get(PoolKey(model, version if contract else "", variant))
    return pool is not None and pool.is_ready()


async def _keep_pinging(redis: RedisStore) -> None:
    """Keep the metric of Redis true while there is no traffic."""
    while True:
        await redis.ping()
        await asyncio.sleep(1.0)
