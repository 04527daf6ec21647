"""The embedded engine's repository: `<engine model name>/<version>/model.onnx`, written by `make models`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from gateway.backends import engine_model_name
from gateway.configuration import ConfigurationError
from gateway.contract import Contract
from gateway.inference import PoolKey
from gateway.settings import Settings

_log = structlog.get_logger()


def onnx_file(repository: Path, key: PoolKey) -> Path:
    """Where the file of a version's variant lies."""
    return repository / engine_model_name(key.model, key.variant) / key.version / "model.onnx"


def check_built(
    settings: Settings,
    contracts: Mapping[str, Contract],
    pools: Mapping[PoolKey, Sequence[str]],
    root: Path,
) -> None:
    """See that the embedded engine finds the files of the pools that it is in.

    A variant that nobody gets unasked may be missing, for its build may have been refused; it is logged, and
    its pool takes no traffic from this endpoint.

    Args:
        settings: which endpoints have a repository.
        contracts: by model name.
        pools: names of endpoints.
        root: what the repositories are relative to.

    Raises:
        ConfigurationError: the file of a default variant is not there.
    """
    for key, names in pools.items():
        for name in names:
            repository = settings.endpoints[name].repository
            if repository is None:
                continue
            file = onnx_file(root / repository, key)
            if file.is_file():
                continue
            if key.variant == contracts[key.model].versions[key.version].default_variant:
                place = settings.where("endpoints", name, "repository")
                raise ConfigurationError(f"{place}: there is no file {file}: run `make models`")
            _log.warning("variant_not_built", endpoint=name, file=str(file))
