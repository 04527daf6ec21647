"""All configuration: `inferway.yaml`, with overrides from the environment.

Every section is frozen and refuses unknown keys. `INFERWAY_SERVER__HTTP_PORT=9000` overrides
`server.http_port`: two underscores go one level down. Contracts are not here: they live in each
`models/<name>/model.yaml`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from gateway.configuration import Source, meant, misplaced
from gateway.security_settings import (
    EndpointTlsSettings,
    KeySettings,
    ListenerTlsSettings,
    QuotaSettings,
    RedisSettings,
)
from gateway.specs import BackendKind, Name, Section, Version
from gateway.traffic_settings import (
    AdmissionSettings,
    BalancingSettings,
    BatchingSettings,
    HedgingSettings,
    PolicyName,
    ReloadSettings,
    RetrySettings,
    RolloutSettings,
    ShadowSettings,
)

Port = Annotated[int, Field(ge=0, le=65535)]


def _is_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("an address is host:port, for example 127.0.0.1:8001")
    return value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"endpoint '{name}' is named twice")
    return names


Address = Annotated[str, AfterValidator(_is_address)]
EVERYWHERE = frozenset({"", "0.0.0.0", "::"})
AdminWrites = Literal["loopback", "any", "off"]
"""From where the admin port takes changes."""
EndpointNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_each_once)]


class ServerSettings(Section):
    """Where the gateway listens, and how much it takes.

    Attributes:
        processes: how many gateway processes share the ports.
        admin_writes: from where the admin port takes changes.
        drain_delay_seconds: after SIGTERM, how long it goes on as before while it says that it is not ready,
            so that whoever balances over several gateways turns to the others first.
        max_connection_age_seconds: after which a gRPC connection is to be made anew, so that clients spread
            over the replicas that there are; 0 means never.
        max_connection_age_grace_seconds: how long calls in flight on such a connection may take to finish.
    """

    processes: Annotated[int, Field(ge=1, le=256)] = 1
    host: str = "127.0.0.1"
    http_port: Port = 8080
    grpc_port: Port = 8081
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8082
    admin_writes: AdminWrites = "loopback"
    max_request_bytes: Annotated[int, Field(gt=0)] = 64 * 1024 * 1024
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0
    drain_delay_seconds: Annotated[float, Field(ge=0)] = 0.0
    max_connection_age_seconds: Annotated[float, Field(ge=0)] = 300.0
    max_connection_age_grace_seconds: Annotated[float, Field(ge=0)] = 30.0
    tls: ListenerTlsSettings = ListenerTlsSettings()

    @model_validator(mode="after")
    def _each_port_once(self) -> Self:
        # Else each is bound, since none listens yet, and the one that is last to listen fails.
        ports = [port for port in (self.http_port, self.grpc_port) if port]
        if self.admin_port and (self.admin_host == self.host or EVERYWHERE & {self.admin_host, self.host}):
            ports.append(self.admin_port)
        if len({*ports}) < len(ports):
            raise ValueError("http_port, grpc_port and admin_port must differ")
        return self


class LogSettings(Section):
    """Structured logs on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


def _is_otlp_endpoint(value: str) -> str:
    expected = "expected http://host:port or https://host:port of a collector's OTLP over gRPC, or nothing"
    try:
        parts = urlsplit(value)
        is_known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(expected) from error
    if value and (not is_known or parts.path.strip("/") or parts.query):
        raise ValueError(expected)
    return value


class TracingSettings(Section):
    """OpenTelemetry traces, sent over OTLP (gRPC). Without an endpoint there are none.

    Attributes:
        otlp_endpoint: the collector's, `http://host:4317`; `https://` for TLS.
        sample_ratio: share of the traces that begin here; a caller that brings one has decided.
        service_name: the resource's.
    """

    otlp_endpoint: Annotated[str, AfterValidator(_is_otlp_endpoint)] = ""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    service_name: Annotated[str, Field(min_length=1)] = "inferway-gateway"


class CacheSettings(Section):
    """The response cache; which models use it is for their `model.yaml` to say."""

    memory_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    redis: RedisSettings = RedisSettings()


class EndpointSettings(Section):
    """One address of one backend replica, or where the addresses of several are found.

    Attributes:
        backend: the kind of server; `onnxruntime` runs inside the gateway and has no address.
        address: its gRPC address; one endpoint.
        dns: a name and a port: an endpoint for each address that the name has, looked up again and again.
        file: a list of addresses, in YAML, that something else writes: an endpoint for each; read again and
            again, relative to the file.
        management_address: TorchServe's management gRPC address, which knows whether workers are ready.
        management_port: the port of the same, on each address that `dns` or `file` leads to.
        repository: for `onnxruntime`: the folder of its models, relative to the file.
        threads: for `onnxruntime`: threads of one inference.
        instances: how many batches of a model it works on at a time: TorchServe's workers, Triton's
            instances; None for 1, and for `onnxruntime` as many as the machine has cores for.
        tls: for every other backend: TLS on its addresses.
    """

    backend: BackendKind
    address: Address | None = None
    dns: Address | None = None
    file: Annotated[str, Field(min_length=1)] | None = None
    management_address: Address | None = None
    management_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    repository: str | None = None
    threads: Annotated[int, Field(ge=1)] = 1
    instances: Annotated[int, Field(ge=1)] | None = None
    tls: EndpointTlsSettings = EndpointTlsSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        places = [place for place in (self.address, self.dns, self.file) if place is not None]
        if len(places) != (self.backend != "onnxruntime"):
            raise ValueError(
                "every backend but onnxruntime needs one of address, dns and file, and onnxruntime has none"
            )
        if (self.backend == "onnxruntime") is (self.repository is None):
            raise ValueError("onnxruntime needs a repository, and no other backend has one")
        if self.backend == "onnxruntime" and self.tls.ca:
            raise ValueError("onnxruntime runs inside the gateway: it has no tls")
        needs_management = self.backend == "torchserve"
        if (needs_management and not self.is_discovered) is (self.management_address is None):
            raise ValueError("torchserve needs management_address beside address, and nothing else has one")
        if (needs_management and self.is_discovered) is (self.management_port is None):
            raise ValueError("torchserve needs management_port beside dns or file, and nothing else has one")
        return self

    @property
    def batches_at_a_time(self) -> int:
        """How many batches of a model it works on at a time."""
        if self.instances or self.backend != "onnxruntime":
            return self.instances or 1
        return max(1, (os.cpu_count() or 1) // self.threads)

    @property
    def is_discovered(self) -> bool:
        """Whether its addresses are looked up while the gateway runs."""
        return self.dns is not None or self.file is not None

    @property
    def dns_name(self) -> str:
        """The name that its addresses are looked up by; empty where there is none."""
        return (self.dns or "").rpartition(":")[0]

    def at(self, address: str) -> Self:
        """The settings of the endpoint at one address that was found."""
        host = address.rpartition(":")[0]
        management = f"{host}:{self.management_port}" if self.management_port else None
        here = {"address": address, "management_address": management}
        return self.model_copy(update={**here, "dns": None, "file": None, "management_port": None})


class PoolSettings(Section):
    """The endpoints that serve a model.

    Attributes:
        model: the model's name.
        versions: the versions that they serve; empty means all of the model.
        variant: the variant that they serve; without one, every variant, each from those that publish it.
        endpoints: names of endpoints, of any mixture of backends.
        policy: how it picks among them; None for that of `balancing`.
    """

    model: Name
    versions: tuple[Version, ...] = ()
    variant: Name | None = None
    endpoints: EndpointNames
    policy: PolicyName | None = None

    def serves(self, model: str, version: str, variant: str) -> bool:
        """Whether this entry is about that."""
        is_version = not self.versions or version in self.versions
        return model == self.model and is_version and self.variant in {None, variant}


class PassthroughSettings(Section):
    """A model without a contract: bytes go to TorchServe and back unchanged, and are never cached."""

    model: Name
    endpoints: EndpointNames
    policy: PolicyName | None = None


class Settings(Section):
    """The whole of `inferway.yaml`."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    cache: CacheSettings = CacheSettings()
    keys: KeySettings = KeySettings()
    quotas: QuotaSettings = QuotaSettings()
    admission: AdmissionSettings = AdmissionSettings()
    retry: RetrySettings = RetrySettings()
    hedging: HedgingSettings = HedgingSettings()
    batching: BatchingSettings = BatchingSettings()
    balancing: BalancingSettings = BalancingSettings()
    reload: ReloadSettings = ReloadSettings()
    models: tuple[str, ...] = ()
    endpoints: Mapping[Name, EndpointSettings] = {}
    pools: tuple[PoolSettings, ...] = ()
    passthrough: tuple[PassthroughSettings, ...] = ()
    rollouts: tuple[RolloutSettings, ...] = ()
    shadows: tuple[ShadowSettings, ...] = ()

    _source: Source | None = PrivateAttr(default=None)
    _texts: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """What the files say that it was read from, and those of the contracts that were loaded for it."""
        return self._texts

    def where(self, *keys: str | int) -> str:
        """The head of a message on what stands at `keys`: file and line, if a file was read, and the keys."""
        key = ".".join(map(str, keys))
        return f"{self._source.where(keys)}: {key}" if self._source else key

    @model_validator(mode="after")
    def _check(self) -> Self:
        uses = [*_named("pools", self.pools), *_named("passthrough", self.passthrough)]
        for name, place in uses:
            if name not in self.endpoints:
                raise misplaced(f"there is no endpoint '{name}'; {meant(name, self.endpoints)}", *place)
            if place[0] == "passthrough" and self.endpoints[name].backend != "torchserve":
                raise misplaced(f"endpoint '{name}' is not torchserve", *place)
        return self


def _named(
    section: str, entries: Sequence[PoolSettings | PassthroughSettings]
) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The endpoints that the entries of a section name, each with its place."""
    for i, entry in enumerate(entries):
        for j, name in enumerate(entry.endpoints):
            yield name, (section, i, "endpoints", j)
