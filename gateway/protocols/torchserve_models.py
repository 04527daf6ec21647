"""The models in the words of TorchServe's management API."""

from typing import Any

from gateway.catalog import Catalog
from gateway.contract import Contract
from gateway.errors import ModelNotFound
from gateway.protocols.edge import Edge

ALL_VERSIONS = "all"


def list_models(catalog: Catalog, limit: int, start: int) -> dict[str, Any]:
    """One page of the models in order of name, and the token of the next one while there is more."""
    names = catalog.names
    end = start + limit
    # TorchServe gives the token also when the page ends exactly with the list.
    token = {"nextPageToken": str(end)} if end <= len(names) else {}
    return {**token, "models": [{"modelName": name, "modelUrl": f"{name}.mar"} for name in names[start:end]]}


def describe(edge: Edge, model: str, version: str) -> list[dict[str, Any]]:
    """One version of a model; the default one without `version`, every one for `all`.

    The pool behind the gateway is shown as one worker, which is READY while an endpoint takes traffic.

    Raises:
        ModelNotFound: no such model.
        VersionNotFound: no such version.
    """
    catalog = edge.catalog
    if model in catalog.passthrough:
        return [_entry(model, version, 1, ready=edge.is_ready(model, ""))]
    contract = catalog.contracts.get(model)
    if contract is None:
        raise ModelNotFound(model)
    if version == ALL_VERSIONS:
        versions = sorted(contract.versions, key=int)
    else:
        versions = [catalog.version(model, version=model_version(contract, version))]
    size = max(contract.max_batch_size, 1)
    return [_entry(model, concrete, size, ready=edge.is_ready(model, concrete)) for concrete in versions]


def model_version(contract: Contract, version: str) -> str:
    """TorchServe's archives call their first version `1.0`: the contract's `1` unless it has such a one."""
    return version if version in contract.versions else version.removesuffix(".0")


def _entry(model: str, version: str, batch_size: int, *, ready: bool) -> dict[str, Any]:
    worker = {"id": "0", "status": "READY" if ready else "UNLOADING", "gpu": False}
    return {
        "modelName": model,
        "modelVersion": version,
        "modelUrl": f"{model}.mar",
        "runtime": "python",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": batch_size,
        "maxBatchDelay": 0,
        "loadedAtStartup": True,
        "workers": [worker],
    }
