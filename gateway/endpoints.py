"""The backends, endpoints and balancers that the settings describe."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from gateway.backends import Backend
from gateway.backends.channel_tls import ChannelTls
from gateway.backends.onnxruntime import OnnxRuntime
from gateway.backends.open_inference import OpenInference
from gateway.backends.repository import model_files
from gateway.backends.tfserving import TFServing
from gateway.backends.torchserve import TorchServe
from gateway.balancing import least_in_flight, p2c, round_robin
from gateway.balancing.balancer import Balancer, Policy
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.outlier import Outlier, OutlierRules
from gateway.balancing.passive_health import PassiveHealth
from gateway.balancing.peak_ewma import PeakEwma
from gateway.balancing.success_ratio import AnswerCounts
from gateway.contract import Contract
from gateway.handover import Client, Use
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.pools import pool_policy
from gateway.settings import EndpointSettings, Settings
from gateway.tracing import Tracing
from gateway.traffic_settings import BalancingSettings, PolicyName

POLICIES: Mapping[PolicyName, Policy] = {
    "p2c": p2c.pick,
    "least_in_flight": least_in_flight.pick,
    "round_robin": round_robin.pick,
}


def new_clients(
    settings: Settings,
    contracts: Mapping[str, Contract],
    pools: Mapping[PoolKey, Sequence[str]],
    root: Path,
    tracing: Tracing | None,
    before: Mapping[str, Client],
) -> dict[str, tuple[Client, Use]]:
    """A client for every endpoint with an address, by its name, and what it is to `keep`; none is connected.

    Args:
        settings: of the endpoints.
        contracts: by model name.
        pools: the names of the endpoints in each.
        root: what the embedded engine's repository is relative to.
        tracing: makes spans of their calls, if it is on.
        before: the clients of the configuration before this one; those that fit are kept.
    """
    clients = {}
    for name, endpoint in settings.endpoints.items():
        if endpoint.is_discovered:
            continue
        use = _use(name, endpoint, contracts, pools, root)
        known = before.get(name)
        if known is None or not known.fits(use):
            tls = ChannelTls(endpoint.tls, root, name) if endpoint.tls.ca else None
            known = new_client(name, endpoint, tls, settings, root, tracing)
        clients[name] = (known, use)
    return clients


def _use(
    name: str,
    endpoint: EndpointSettings,
    contracts: Mapping[str, Contract],
    pools: Mapping[PoolKey, Sequence[str]],
    root: Path,
) -> Use:
    served = frozenset(key for key, names in pools.items() if name in names)
    repository = endpoint.repository
    files = {key: model_files(root / repository, key) for key in served} if repository else {}
    return Use(endpoint, contracts, served, files)


def new_client(
    name: str,
    endpoint: EndpointSettings,
    tls: ChannelTls | None,
    settings: Settings,
    root: Path,
    tracing: Tracing | None,
) -> Client:
    """The client of an endpoint, by its name and own settings; the other arguments are `new_clients`'."""
    contracts: dict[str, Contract] = {}
    backend = _backend(endpoint, contracts, settings.server.max_request_bytes, root, tls)
    forget = backend.forget if isinstance(backend, OnnxRuntime) else None
    if tracing is not None:
        backend = tracing.endpoint(backend, name=name, kind=endpoint.backend)
    return Client(backend, contracts, tls, forget)


def _backend(
    settings: EndpointSettings,
    contracts: Mapping[str, Contract],
    max_bytes: int,
    root: Path,
    tls: ChannelTls | None,
) -> Backend:
    address = settings.address or ""
    match settings.backend:
        case "onnxruntime":
            repository = root / (settings.repository or "")
            return OnnxRuntime(contracts, repository=repository, threads=settings.threads)
        case "triton":
            return OpenInference(address, contracts=contracts, max_request_bytes=max_bytes, tls=tls)
        case "tfserving":
            return TFServing(address, contracts=contracts, max_request_bytes=max_bytes, tls=tls)
        case "torchserve":
            management = settings.management_address or ""
            return TorchServe(
                address,
                management_address=management,
                contracts=contracts,
                max_request_bytes=max_bytes,
                tls=tls,
            )


def new_balancer(
    key: PoolKey,
    names: Sequence[str],
    clients: Mapping[str, Client],
    settings: Settings,
    metrics: Metrics,
    known: Sequence[Endpoint],
    *,
    same_rules: bool = False,
) -> Balancer:
    """The balancer of one pool; endpoints that are looked up come later.

    Args:
        key: what it serves.
        names: of its endpoints.
        clients: by endpoint.
        settings: of the balancing.
        metrics: of this process.
        known: endpoints of this pool in the configuration before; those whose client is still the same stay.
        same_rules: whether they were made by the same settings of the balancing; if not, they are made anew.
    """
    balancing = settings.balancing
    staying = {(endpoint.name, endpoint.infer): endpoint for endpoint in known}
    endpoints = []
    for name in names:
        if name not in clients:
            continue
        backend = clients[name].backend
        before = staying.get((name, backend))
        endpoints.append(
            kept_endpoint(name, settings.endpoints[name], backend, balancing, before, same_rules=same_rules)
        )
    return Balancer(
        endpoints,
        pool=key,
        attempt_timeout_seconds=balancing.attempt_timeout_seconds,
        metrics=metrics,
        policy=POLICIES[pool_policy(settings, key)],
        panic_ratio=balancing.panic_ratio,
        passive_health=PassiveHealth(
            margin_ratio=balancing.outlier_margin_ratio,
            min_requests=balancing.outlier_min_requests,
            max_ejected_ratio=balancing.max_ejected_ratio,
        ),
        rng=Random(),  # noqa: S311 - nothing secret, and the system would be called twice a request
    )


def kept_endpoint(
    name: str,
    settings: EndpointSettings,
    backend: Backend,
    balancing: BalancingSettings,
    before: Endpoint | None,
    *,
    same_rules: bool,
) -> Endpoint:
    """What a pool knows about an endpoint: what is known `before` of the same client, if anything is.

    Args:
        name: of the endpoint.
        settings: of the endpoint.
        backend: its client.
        balancing: the rules.
        before: the same endpoint of the same pool, in the configuration before.
        same_rules: whether `before` was made by the same rules; if not, it is made anew and goes on from it.
    """
    if before is not None and same_rules:
        return before
    endpoint = _endpoint(name, settings, backend, balancing)
    if before is not None:
        endpoint.go_on(before, time.monotonic())
    return endpoint


def _endpoint(
    name: str, settings: EndpointSettings, backend: Backend, balancing: BalancingSettings
) -> Endpoint:
    rules = OutlierRules(
        balancing.consecutive_failures,
        balancing.ejection_seconds,
        balancing.max_ejection_seconds,
        balancing.outlier_window_seconds,
    )
    return Endpoint(
        name,
        settings.backend,
        backend,
        PeakEwma(balancing.latency_decay_seconds),
        Outlier(rules),
        AnswerCounts(balancing.outlier_window_seconds),
        instances=settings.batches_at_a_time,
    )
