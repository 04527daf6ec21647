"""A question, and the check of its answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUM_TOLERANCE = 1e-3


class WrongAnswer(AssertionError):
    """The gateway said OK, and the answer is not right."""


@dataclass(frozen=True, slots=True)
class Right:
    """What an answer has to be.

    Attributes:
        size: how many numbers the model's first output has.
        adds_up: whether these are probabilities.
        values: the numbers, float [size]; None when they are not known.
        named: the same by label, as an answer of `/predictions` calls them; empty when they are not known.
        tolerance: how far each may be off: absolute, and relative for numbers beyond 1.
    """

    size: int
    adds_up: bool
    values: NDArray[np.floating[Any]] | None
    named: Mapping[str, float]
    tolerance: float

    def check_values(self, found: NDArray[Any] | Sequence[float]) -> None:
        """See that the first output's numbers, flat, are right.

        Raises:
            WrongAnswer: they are not.
        """
        numbers = np.asarray(found, np.float64)
        if numbers.shape != (self.size,) or not np.isfinite(numbers).all():
            raise WrongAnswer(f"expected {self.size} numbers, got {str(found)[:200]}")
        if self.adds_up and abs(numbers.sum() - 1) > SUM_TOLERANCE:
            raise WrongAnswer(f"the probabilities add up to {numbers.sum():.4f}")
        if self.values is not None:
            self._check_near(numbers, self.values)

    def check_named(self, found: Mapping[str, float]) -> None:
        """See that an answer of `/predictions`, `{label: number}`, is right.

        Raises:
            WrongAnswer: it is not.
        """
        numbers = np.array([*found.values()], np.float64)
        if not found or not np.isfinite(numbers).all():
            raise WrongAnswer(f"expected numbers by label, got {str(found)[:200]}")
        if self.named:
            if unknown := found.keys() - self.named.keys():
                raise WrongAnswer(f"no label of the model: {min(unknown)}")
            self._check_near(numbers, np.array([self.named[label] for label in found]))

    def _check_near(self, found: NDArray[Any], right: NDArray[Any]) -> None:
        off = np.abs(found - right) / np.maximum(1.0, np.abs(right))
        if off.max() > self.tolerance:
            at = int(off.argmax())
            raise WrongAnswer(f"number {at} is {found[at]:.4f} and not {right[at]:.4f}")


@dataclass(frozen=True, slots=True)
class Question:
    """One input of a model.

    Attributes:
        model: its name.
        payload: a file, as TorchServe's protocols carry it.
        inputs: the tensors that transform.py makes of it, by name, each a batch of one.
        right: the check of its answers.
    """

    model: str
    payload: bytes
    inputs: Mapping[str, NDArray[Any]]
    right: Right
