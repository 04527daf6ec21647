"""What OIP says about the server and its models, as plain dicts: JSON for REST, `ParseDict` for gRPC.

Keys, order and datatypes are Triton's (https://github.com/triton-inference-server/server, docs/protocol), so
that its clients find what they look for. What a gateway cannot know is left out or 0, as each function says.
"""

from collections.abc import Iterator
from typing import Any

from prometheus_client import Histogram

from gateway import __version__
from gateway.catalog import Catalog
from gateway.contract import Contract
from gateway.protocols.edge import Edge
from gateway.specs import TensorSpec
from gateway.stages.measured import OK

SERVER_NAME = "inferway"
PLATFORM = "inferway"
"""The `platform` and `backend` of every model: a pool mixes engines, so no engine's name would be true."""

EXTENSIONS = ("classification", "model_configuration", "binary_tensor_data", "parameters", "statistics")
"""Triton's extensions that work in full. Of `model_repository` only the index does, so it is not here."""


def server_metadata() -> dict[str, Any]:
    """`{"name", "version", "extensions"}`."""
    return {"name": SERVER_NAME, "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(catalog: Catalog, model: str, version: str = "") -> dict[str, Any]:
    """`{"name", "versions", "platform", "inputs", "outputs"}`; a batch axis is -1, `versions` lists them all.

    Raises:
        ModelNotFound: no such model.
        VersionNotFound: no such version.
    """
    contract = _contract(catalog, model, version)
    return {
        "name": contract.name,
        "versions": sorted(contract.versions, key=int),
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(contract, spec) for spec in contract.inputs],
        "outputs": [_tensor_metadata(contract, spec) for spec in contract.outputs],
    }


def model_config(catalog: Catalog, model: str, version: str = "") -> dict[str, Any]:
    """The part of Triton's `ModelConfig` that a contract states; `dims` are without the batch axis.

    Raises:
        ModelNotFound: no such model.
        VersionNotFound: no such version.
    """
    contract = _contract(catalog, model, version)
    return {
        "name": contract.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"specific": {"versions": sorted(map(int, contract.versions))}},
        "max_batch_size": contract.max_batch_size,
        "input": [{**_tensor_config(spec), "format": "FORMAT_NONE"} for spec in contract.inputs],
        "output": [_tensor_config(spec) for spec in contract.outputs],
    }


def repository_index(edge: Edge, *, ready_only: bool = False) -> list[dict[str, str]]:
    """Every version of every model: `{"name", "version", "state", "reason"}`."""
    index = []
    for name, contract in sorted(edge.catalog.contracts.items()):
        for version in sorted(contract.versions, key=int):
            ready = edge.is_ready(name, version)
            if ready or not ready_only:
                state, reason = ("READY", "") if ready else ("UNAVAILABLE", "no endpoint takes traffic")
                index.append({"name": name, "version": version, "state": state, "reason": reason})
    return index


def model_statistics(edge: Edge, model: str = "", version: str = "") -> dict[str, Any]:
    """`{"model_stats": [...]}` of one version, of all of a model's, or (both empty) of every model's.

    Counts and times are those of `/metrics`, since the gateway started:

    - `success`, `fail`: requests over every protocol, with the time that the client saw. A failure that named
      no version, or one that is not there, counts for the default one.
    - `compute_infer`: attempts at endpoints that ended well, with their time; their number is also
      `execution_count` and `inference_count` (requests: Triton would count a batch of 8 as 8).
    - `cache_hit`: successes without an inference of their own (a cache, another request's flight); no time.
    - `cache_miss`: those with one; no time.
    - `queue`, `compute_input`, `compute_output`: 0: there is no queue, and copies are not timed apart.
    - `last_inference`: 0, not kept.

    Raises:
        ModelNotFound: no such model.
        VersionNotFound: no such version.
    """
    catalog = edge.catalog
    names = [model] if model else sorted(catalog.contracts)
    stats: list[dict[str, Any]] = []
    for name in names:
        contract = _contract(catalog, name, version)
        versions = [version] if version else sorted(contract.versions, key=int)
        stats.extend(_version_statistics(edge, contract, each) for each in versions)
    return {"model_stats": stats}


def _version_statistics(edge: Edge, contract: Contract, version: str) -> dict[str, Any]:
    metrics = edge.measured.metrics
    versions = {version, ""} if version == contract.default_version else {version}
    success, fail = _Duration(), _Duration()
    for labels, duration in _durations(metrics.requests, contract.name, versions):
        (success if labels["outcome"] == OK else fail).add(duration)
    computed = _Duration()
    for labels, duration in _durations(metrics.attempts, contract.name, {version}):
        if labels["outcome"] == OK:
            computed.add(duration)
    hits = max(0, success.count - computed.count)
    copied = {"count": computed.count, "ns": 0}
    return {
        "name": contract.name,
        "version": version,
        "last_inference": 0,
        "inference_count": computed.count,
        "execution_count": computed.count,
        "inference_stats": {
            "success": success.as_dict(),
            "fail": fail.as_dict(),
            "queue": {"count": success.count, "ns": 0},
            "compute_input": copied,
            "compute_infer": computed.as_dict(),
            "compute_output": copied,
            "cache_hit": {"count": hits, "ns": 0},
            "cache_miss": {"count": computed.count, "ns": 0},
        },
        "batch_stats": [],
    }


class _Duration:
    """How many, and how long in all."""

    def __init__(self, count: int = 0, seconds: float = 0.0) -> None:
        self.count = count
        self.seconds = seconds

    def add(self, other: "_Duration") -> None:
        self.count += other.count
        self.seconds += other.seconds

    def as_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": round(self.seconds * 1e9)}


def _durations(
    histogram: Histogram, model: str, versions: set[str]
) -> Iterator[tuple[dict[str, str], _Duration]]:
    """The children of a histogram that belong to these versions of the model."""
    for family in histogram.collect():
        for sample in family.samples:
            if sample.labels["model"] != model or sample.labels["version"] not in versions:
                continue
            if sample.name.endswith("_count"):
                yield sample.labels, _Duration(count=int(sample.value))
            elif sample.name.endswith("_sum"):
                yield sample.labels, _Duration(seconds=sample.value)


def _contract(catalog: Catalog, model: str, version: str) -> Contract:
    catalog.version(model, version=version)
    return catalog.contract(model)


def _tensor_metadata(contract: Contract, spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(contract.full_shape(spec))}


def _tensor_config(spec: TensorSpec) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape)}
