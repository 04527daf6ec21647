"""The embedded engine's repository: `<engine model name>/<version>/model.onnx`, whoever wrote it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import structlog

from gateway.backends import engine_model_name
from gateway.backends.external_data import external_locations
from gateway.configuration import ConfigurationError
from gateway.contract import Contract
from gateway.file_watch import FileState, file_state
from gateway.inference import PoolKey
from gateway.settings import Settings

KNOWN_FILES = 4096
"""Files of which digest and locations are kept until they change: a reload must not read them all again."""

_log = structlog.get_logger()


def onnx_file(repository: Path, key: PoolKey) -> Path:
    """Where the file of a version's variant lies."""
    return repository / engine_model_name(key.model, key.variant) / key.version / "model.onnx"


def model_files(repository: Path, key: PoolKey) -> tuple[Path, ...]:
    """The file of a version's variant, and those beside it that have weights of it (ONNX's external data).

    A location that leads out of the file's folder, by links too, is left out, for ONNX Runtime refuses it;
    where the file is a link, the folder that it leads to is one of its own.
    """
    file = onnx_file(repository, key)
    beside = [file.parent / location for location in _locations(file, file_state(file))]
    if not beside:  # as with nearly all
        return (file,)
    folders = {os.path.realpath(file.parent), str(Path(os.path.realpath(file)).parent)}
    return file, *(path for path in beside if any(_is_within(path, folder) for folder in folders))


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
                raise ConfigurationError(f"{place}: {what}: there is no file {file}: {mend}", file)
            _log.warning("variant_not_built", endpoint=name, file=str(file))


def file_digests(
    settings: Settings, pools: Mapping[PoolKey, Sequence[str]], root: Path
) -> dict[PoolKey, bytes]:
    """The digests of the files that the embedded engine serves, as they are now, by what it serves from them.

    They are part of the content key, so that a file that was written over never meets the answers of the one
    before it, in any process' memory or in Redis.

    Args:
        settings: which endpoints have a repository.
        pools: names of endpoints.
        root: what the repositories are relative to.
    """
    digests: dict[PoolKey, bytes] = {}
    for key, names in pools.items():
        repositories = [settings.endpoints[name].repository for name in names]
        of_pool = [
            model_files(root / repository, key) for repository in repositories if repository is not None
        ]
        if of_pool:
            digests[key] = b"".join(_digest(file, file_state(file)) for files in of_pool for file in files)
    return digests


@lru_cache(KNOWN_FILES)
def _locations(file: Path, state: FileState) -> tuple[str, ...]:
    """Of a file in this state."""
    try:
        return external_locations(file) if state else ()
    except OSError:  # it has gone, or nobody may read it
        return ()


def _is_within(path: Path, folder: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder)


@lru_cache(KNOWN_FILES)
def _digest(file: Path, state: FileState) -> bytes:
    """Of a file in this state. One that cannot be read gets one of its own: it is not known what comes."""
    if state is None:
        return os.urandom(32)
    try:
        with file.open("rb") as content:  # not mapped: whoever writes it over now would end this process
            return hashlib.file_digest(content, "sha256").digest()
    except OSError:
        return os.urandom(32)
