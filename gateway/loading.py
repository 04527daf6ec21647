"""Reads `inferway.yaml` and the `model.yaml` of every model folder that it names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.configuration import ConfigurationError, read
from gateway.contract import Contract
from gateway.settings import Settings

ENVIRONMENT_PREFIX = "INFERWAY_"
NO_SETTINGS = frozenset({"INFERWAY_ADMIN"})
"""What begins like a setting and is for the command line (`gateway/cli/`)."""


def load_settings(
    path: Path, environment: Mapping[str, str] | None = None, texts: Mapping[str, str] | None = None
) -> Settings:
    """Read and check `inferway.yaml`.

    Args:
        path: the file.
        environment: overrides; the process's own by default.
        texts: `Settings.texts` of a configuration that is to be loaded once more, whatever its files say now.

    Raises:
        ConfigurationError: with file, line and what is expected there.
    """
    kept = dict(texts or {})
    source = read(path, _overrides(os.environ if environment is None else environment), kept)
    settings = source.checked(Settings)
    settings._source, settings._texts = source, kept  # noqa: SLF001 - where it was read from is not in the file
    return settings


def load_contracts(settings: Settings, root: Path) -> dict[str, Contract]:
    """The contract of every model folder that the settings name, relative to `root`.

    Raises:
        ConfigurationError: with file, line and what is expected there.
    """
    contracts: dict[str, Contract] = {}
    for index, name in enumerate(settings.models):
        folder = root / name
        path = folder / "model.yaml"
        if str(path) not in settings.texts and not path.exists():
            place = settings.where("models", index)
            raise ConfigurationError(f"{place}: {path}: cannot be read: there is no such file")
        source = read(path, texts=settings.texts)
        contract = source.checked(Contract)
        example = folder / contract.example
        if contract.example and not example.is_file():
            place = source.where(["example"])
            raise ConfigurationError(f"{place}: example: there is no file {example}", example)
        if contract.name in contracts:
            other = contracts[contract.name].folder
            raise ConfigurationError(f"{path}:1: model '{contract.name}' is in {other} too")
        contract._folder = folder  # noqa: SLF001 - where it was read from is no part of the file
        contracts[contract.name] = contract
    return contracts


def _overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    """`INFERWAY_A__B=value` as nested mappings; values are read as YAML reads them."""
    nested: dict[str, Any] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NO_SETTINGS:
            continue
        *parents, last = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        section = nested
        for depth, parent in enumerate(parents, 1):
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                outer = "__".join(name.split("__")[:depth])
                raise ConfigurationError(f"environment: {name}: {outer} is set too, and is no mapping")
        try:
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            text = str(error).splitlines()[0]
            raise ConfigurationError(f"environment: {name}: not YAML: {text}") from error
    return nested
