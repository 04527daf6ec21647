"""Loads a model's `transform.py`: the one code that turns bytes into tensors and tensors into an answer."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from gateway.configuration import ConfigurationError
from gateway.contract import Contract
from gateway.file_watch import FileState, file_state
from gateway.inference import Tensor


class Transform(Protocol):
    """The functions of a `transform.py`."""

    def to_inputs(self, payload: bytes) -> Mapping[str, NDArray[np.generic]]:
        """The input tensors of one item, without the batch axis.

        Raises:
            ValueError: the payload is not what the model takes; the text is fit for the caller.
        """
        ...

    def to_answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, Any]:
        """What one item's outputs (without the batch axis) mean: `{label: probability}`."""
        ...


@dataclass(frozen=True, slots=True)
class ModelCode:
    """What is made of the other files of a model's folder.

    Attributes:
        transform: None when the model has none.
        example: the input tensors of its example; none when it has no example or no transform.
    """

    transform: Transform | None
    example: tuple[Tensor, ...]
    _contract: Contract
    _files: frozenset[tuple[Path, FileState]]

    @classmethod
    def load(cls, contract: Contract, known: "ModelCode | None" = None) -> "ModelCode":
        """Load it, or go on with what is known, if no file in the folder has changed since.

        A reload does this beside requests, and a tokenizer takes as long as all the rest.

        Raises:
            ConfigurationError: the transform is of no use, or the example is not what it takes.
        """
        paths = (path for path in contract.folder.glob("*") if path.is_file())
        files = frozenset((path, file_state(path)) for path in paths)
        if known is not None and known._contract == contract and known._files == files:  # noqa: SLF001 - its own
            return known
        transform = load_transform(contract.folder)
        return cls(transform, example_inputs(contract, transform), contract, files)


def example_inputs(contract: Contract, transform: Transform | None) -> tuple[Tensor, ...]:
    """The input tensors of a model's example, a batch of one; none when it has no example or no transform.

    Raises:
        ConfigurationError: the example is not what the transform takes.
    """
    if not contract.example or transform is None:
        return ()
    path = contract.folder / contract.example
    try:
        values = transform.to_inputs(path.read_bytes())
    except ValueError as error:
        text = f"{path}: the example of model '{contract.name}' is refused: {error}"
        raise ConfigurationError(text) from error
    batched = {
        name: value[np.newaxis] if contract.max_batch_size else value for name, value in values.items()
    }
    return tuple(Tensor.of(spec.name, spec.datatype, batched[spec.name]) for spec in contract.inputs)


def load_transform(folder: Path) -> Transform | None:
    """The transform of the model in `folder`, or None when it has none.

    Raises:
        ConfigurationError: it cannot be imported, or lacks one of its functions.
    """
    path = folder / "transform.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"inferway_transform_{folder.name}", path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path}: is no Python module")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a model's own code may fail in any way
        raise ConfigurationError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    for function in ("to_inputs", "to_answer"):
        if not callable(getattr(module, function, None)):
            raise ConfigurationError(f"{path}: there is no function '{function}'")
    return cast("Transform", module)
