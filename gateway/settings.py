"""All configuration: `inferway.yaml`, with overrides from the environment.

Every section is frozen and refuses unknown keys. `INFERWAY_SERVER__HTTP_PORT=9000` overrides
`server.http_port`: two underscores go one level down. Contracts are not here: they live in each
`models/<name>/model.yaml`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from gateway.configuration import Source, meant, misplaced
from gateway.specs import BackendKind, Name, Section, Version

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


def _is_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("an address is host:port, for example 127.0.0.1:8001")
    return value


def _is_redis_url(value: str) -> str:
    expected = "expected redis://host:port/number or rediss://..., or nothing"
    try:
        parts = urlsplit(value)
        is_known = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        int(parts.path.strip("/") or 0)
    except ValueError as error:
        raise ValueError(expected) from error
    if value and not is_known:
        raise ValueError(expected)
    return value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"endpoint '{name}' is named twice")
    return names


Address = Annotated[str, AfterValidator(_is_address)]
EndpointNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_each_once)]


class ServerSettings(Section):
    """Where the gateway listens, and how much it takes."""

    host: str = "127.0.0.1"
    http_port: Port = 8080
    grpc_port: Port = 8081
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8082
    max_request_bytes: Annotated[int, Field(gt=0)] = 64 * 1024 * 1024
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0


class LogSettings(Section):
    """Structured logs on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class RedisSettings(Section):
    """The shared cache tier. Without `url` there is none, and the memory tier stands alone."""

    url: Annotated[str, AfterValidator(_is_redis_url)] = ""
    timeout_seconds: Seconds = 0.1
    retry_after_seconds: Seconds = 1.0


class CacheSettings(Section):
    """The response cache; which models use it is for their `model.yaml` to say."""

    memory_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    redis: RedisSettings = RedisSettings()


class RetrySettings(Section):
    """Retries of attempts that failed at one endpoint, at another one.

    Attributes:
        max_attempts: attempts a request, the first included.
        budget_ratio: retries for each request of live traffic.
        budget_floor_per_second: retries a second that are always allowed.
    """

    max_attempts: Annotated[int, Field(ge=1)] = 4
    budget_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2
    budget_floor_per_second: Annotated[float, Field(ge=0)] = 10.0


class BalancingSettings(Section):
    """Choice of endpoints, and their health.

    Attributes:
        attempt_timeout_seconds: how long one attempt may take, so that a hang is retried elsewhere.
        latency_decay_seconds: how fast a peak of latency is forgotten.
        consecutive_failures: how many in a row eject an endpoint.
        ejection_seconds: the first ejection's length; each further one doubles it.
        max_ejection_seconds: where doubling ends.
        ready_interval_seconds: how often readiness is asked.
        ready_timeout_seconds: how long an endpoint may take to say that it is ready.
        warm_up_timeout_seconds: how long it may then take to answer the model's example, several times.
    """

    attempt_timeout_seconds: Seconds = 2.5
    latency_decay_seconds: Seconds = 10.0
    consecutive_failures: Annotated[int, Field(ge=1)] = 3
    ejection_seconds: Seconds = 1.0
    max_ejection_seconds: Seconds = 30.0
    ready_interval_seconds: Seconds = 0.5
    ready_timeout_seconds: Seconds = 1.0
    warm_up_timeout_seconds: Seconds = 10.0


class EndpointSettings(Section):
    """One address of one backend replica.

    Attributes:
        backend: the kind of server; `onnxruntime` runs inside the gateway and has no address.
        address: its gRPC address.
        management_address: TorchServe's management gRPC address, which knows whether workers are ready.
        repository: for `onnxruntime`: the folder of its models, relative to the file.
        threads: for `onnxruntime`: threads of one inference.
    """

    backend: BackendKind
    address: Address | None = None
    management_address: Address | None = None
    repository: str | None = None
    threads: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.backend == "onnxruntime") is (self.address is not None):
            raise ValueError("every backend but onnxruntime needs an address, and onnxruntime has none")
        if (self.backend == "onnxruntime") is (self.repository is None):
            raise ValueError("onnxruntime needs a repository, and no other backend has one")
        if (self.backend == "torchserve") is (self.management_address is None):
            raise ValueError("torchserve needs management_address, and no other backend has one")
        return self


class PoolSettings(Section):
    """The endpoints that serve a model.

    Attributes:
        model: the model's name.
        versions: the versions that they serve; empty means all of the model.
        variant: the variant that they serve; without one, every variant, each from those that publish it.
        endpoints: names of endpoints, of any mixture of backends.
    """

    model: Name
    versions: tuple[Version, ...] = ()
    variant: Name | None = None
    endpoints: EndpointNames


class PassthroughSettings(Section):
    """A model without a contract: bytes go to TorchServe and back unchanged, and are never cached."""

    model: Name
    endpoints: EndpointNames


class Settings(Section):
    """The whole of `inferway.yaml`."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    cache: CacheSettings = CacheSettings()
    retry: RetrySettings = RetrySettings()
    balancing: BalancingSettings = BalancingSettings()
    models: tuple[str, ...] = ()
    endpoints: Mapping[Name, EndpointSettings] = {}
    pools: tuple[PoolSettings, ...] = ()
    passthrough: tuple[PassthroughSettings, ...] = ()

    _source: Source | None = PrivateAttr(default=None)

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
