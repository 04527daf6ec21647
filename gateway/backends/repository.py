"""The embedded engine's repository: `<engine model name>/<version>/model.onnx`, whoever wrote it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import structlog

from gateway.backends import engine_model_name
from gateway.configuration import ConfigurationError
from gateway.contract import Contract
from gateway.file_watch import FileState, file_state
from gateway.inference import PoolKey
from gateway.settings import Settings

KNOWN_FILES = 4096
"""Files whose digest is kept until they change: a reload must not read them all again."""

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
                what = f"version {key.version} of model '{key.model}'"
                mend = "put it there; `make models` builds those of models/"
                raise ConfigurationError(f"{place}: {what}: there is no file {file}: {mend}")
            _log.warning("variant_not_built", endpoint=name, file=str(file))


def file_digests(
    settings: Settings, pools: Mapping[PoolKey, Sequence[str]], root: Path
) -> dict[PoolKey, bytes]:
    """The digests of the files that the embedded engine serves, as they are now, by what it serves from them.

    They are part of the content key, so that a file that was written over never meets the answers of the one
    before it, in any process' memory or in Redis. Weights that lie in files of their own beside it (ONNX's
    external data) are not looked at.

    Args:
        settings: which endpoints have a repository.
        pools: names of endpoints.
        root: what the repositories are relative to.
    """
    digests: dict[PoolKey, bytes] = {}
    for key, names in pools.items():
        repositories = [settings.endpoints[name].repository for name in names]
        files = [onnx_file(root / repository, key) for repository in repositories if repository is not None]
        if files:
            digests[key] = b"".join(_digest(file, file_state(file)) for file in files)
    return digests


@lru_cache(KNOWN_FILES)
def _digest(file: Path, state: FileState) -> bytes:
    """Of a file in this state. One that is not there yet gets one of its own: it is not known what comes."""
    if state is None:
        return os.urandom(32)
    with file.open("rb") as content:  # not mapped: whoever writes it over now would end this process
        return hashlib.file_digest(content, "sha256").digest()
