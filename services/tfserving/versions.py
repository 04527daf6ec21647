"""The versions of a model: their states, and which ones TensorFlow Serving would hold.

Sources: tensorflow_serving/sources/storage_path/file_system_storage_path_source.{proto,cc}.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Generic, TypeVar

Servable = TypeVar("Servable")


class State(IntEnum):
    """States of a version, with their numbers in GetModelStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(slots=True)
class Version(Generic[Servable]):
    """One version of one model."""

    number: int
    path: Path
    state: State = State.START
    error: str = ""
    servable: Servable | None = None
    attempts: int = 0
    try_again_at: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether waiting will change nothing."""
        return self.state in (State.AVAILABLE, State.END)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model of models.config.

    Attributes:
        name: as clients call it.
        base_path: the folder whose numbered folders are the versions.
        platform: `tensorflow`.
        latest: hold the so many latest versions; 0 where another policy is set.
        specific: hold these; empty where another policy is set. With neither, hold all.
        labels: version labels.
    """

    name: str
    base_path: Path
    platform: str = "tensorflow"
    latest: int = 1
    specific: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)


def numbered(children: Iterable[Path]) -> dict[int, Path]:
    """The folders whose names are numbers, by number; what else lies there is no version."""
    return {int(child.name): child for child in children if child.name.isdecimal()}


def wanted(config: ModelConfig, present: Mapping[int, Path]) -> dict[int, Path]:
    """The versions to hold, among those present."""
    if config.latest:
        chosen = sorted(present)[-config.latest :]
    elif config.specific:
        chosen = sorted(config.specific & present.keys())
    else:
        chosen = sorted(present)
    return {number: present[number] for number in chosen}


def local_path(base_path: str, models_root: Path | None) -> Path:
    """Where a base path of the configuration lies here: `/models/x` under `models_root` as `x`.

    Containers have their models under /models; this is what lets them and a plain process share one
    models.config.
    """
    path = Path(base_path)
    if models_root is None or not path.is_relative_to("/models"):
        return path
    return models_root / path.relative_to("/models")
