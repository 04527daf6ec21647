"""The backends, endpoints and balancers that the settings describe."""

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

from gateway.backends import Backend
from gateway.backends.channel_tls import ChannelTls
from gateway.backends.onnxruntime import OnnxRuntime
from gateway.backends.open_inference import OpenInference
from gateway.backends.repository import onnx_file
from gateway.backends.tfserving import TFServing
from gateway.backends.torchserve import TorchServe
from gateway.balancing import least_in_flight, p2c, round_robin
from gateway.balancing.address_sources import DnsSource, FileSource
from gateway.balancing.balancer import Balancer, Policy
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.health_check import HealthCheck
from gateway.balancing.membership import Membership
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
        clients[name] = (known if known and known.fits(use) else _client(name, settings, root, tracing), use)
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
    files = {key: onnx_file(root / repository, key) for key in served} if repository else {}
    return Use(endpoint, contracts, served, files)


def _client(name: str, settings: Settings, root: Path, tracing: Tracing | None) -> Client:
    endpoint = settings.endpoints[name]
    contracts: dict[str, Contract] = {}
    tls = ChannelTls(endpoint.tls, root, name) if endpoint.tls.ca else None
    backend = _backend(endpoint, contracts, settings.server.max_request_bytes, root, tls)
    forget = backend.forget if isinstance(backend, OnnxRuntime) else None
    if tracing is not None:
        backend = tracing.endpoint(backend, name=name, kind=endpoint.backend)
    return Client(backend, contracts, tls, forget)


def new_discovered_tls(settings: Settings, root: Path) -> dict[str, ChannelTls]:
    """How the channels of an entry that is looked up are secured, by its name, where they are."""
    return {
        name: ChannelTls(endpoint.tls, root, name, endpoint.dns_name)
        for name, endpoint in settings.endpoints.items()
        if endpoint.is_discovered and endpoint.tls.ca
    }


def new_memberships(
    settings: Settings,
    contracts: Mapping[str, Contract],
    root: Path,
    channel_tls: Mapping[str, ChannelTls],
    tracing: Tracing | None,
    pools: Sequence[tuple[PoolKey, Balancer, Sequence[str]]],
    health: HealthCheck,
    drained: Collection[str],
    metrics: Metrics,
) -> list[Membership]:
    """What fills and empties the pools, for each entry that is looked up.

    Args:
        settings: of the endpoints.
        contracts: by model name.
        root: what files with addresses are relative to.
        channel_tls: of the entries that have any.
        tracing: makes spans of their calls, if it is on.
        pools: what each serves, those that only shadows ask included, and the names of its entries.
        health: asks whether endpoints are ready.
        drained: the names of the endpoints that an operator has drained.
        metrics: of this process.
    """
    open_backend = partial(_traced, settings, contracts, root, channel_tls, tracing)

    def membership(entry: str, found: EndpointSettings) -> Membership:
        return Membership(
            entry,
            source=DnsSource(found.dns) if found.dns else FileSource(root / (found.file or "")),
            pools=[(key, pool) for key, pool, names in pools if entry in names],
            open_backend=lambda name, address: open_backend(entry, name, found.at(address)),
            new_endpoint=lambda name, backend: _endpoint(name, found, backend, settings.balancing),
            health=health,
            drained=drained,
            interval_seconds=settings.balancing.discovery_interval_seconds,
            lookups=metrics.discovery_lookups,
        )

    return [membership(name, entry) for name, entry in settings.endpoints.items() if entry.is_discovered]


def _traced(
    settings: Settings,
    contracts: Mapping[str, Contract],
    root: Path,
    channel_tls: Mapping[str, ChannelTls],
    tracing: Tracing | None,
    entry: str,
    name: str,
    endpoint: EndpointSettings,
) -> Backend:
    """The client of one endpoint of an entry, which tells its name to the spans where there are any."""
    tls = channel_tls.get(entry)
    backend = _backend(endpoint, contracts, settings.server.max_request_bytes, root, tls)
    return tracing.endpoint(backend, name=name, kind=endpoint.backend) if tracing else backend


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
        endpoint = staying.get((name, backend))
        if endpoint is None or not same_rules:
            before, endpoint = endpoint, _endpoint(name, settings.endpoints[name], backend, balancing)
            if before is not None:
                endpoint.go_on(before, time.monotonic())
        endpoints.append(endpoint)
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
