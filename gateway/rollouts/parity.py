"""How far two answers to one request are apart."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.inference import Tensor


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison found.

    Attributes:
        largest: absolute difference of any two values, over all outputs; infinite where a value has nothing
            to be compared with: another shape, other text, or a number against NaN.
        mean: the same, over all values.
        agreeing: items whose largest entry has the same label in both.
        labelled: items that have labels at all.
    """

    largest: float
    mean: float
    agreeing: int
    labelled: int


def compare(answer: Sequence[Tensor], other: Sequence[Tensor], labelled: Collection[str]) -> Parity:
    """Compare the outputs of two answers to one request.

    Args:
        answer: the outputs that the client got.
        other: those of the other side, in the same order.
        labelled: names of the outputs whose last axis has one entry for each label.
    """
    largest, total, values = 0.0, 0.0, 0
    agreeing = items = 0
    for ours, theirs in zip(answer, other, strict=True):
        if ours.datatype == "BYTES" or (ours.datatype, ours.shape) != (theirs.datatype, theirs.shape):
            # BYTES are the same or not: each element follows its length, so equal bytes are equal elements.
            same = (ours.datatype, ours.shape, ours.data) == (theirs.datatype, theirs.shape, theirs.data)
            apart = np.zeros(1) if same else np.full(1, math.inf)
        else:
            a, b = _numbers(ours), _numbers(theirs)
            apart = _differences(a, b)
            if ours.name in labelled and a.size:
                same_labels = np.argmax(a, axis=-1) == np.argmax(b, axis=-1)
                agreeing += int(np.count_nonzero(same_labels))
                items += int(np.size(same_labels))
        if apart.size:
            largest = max(largest, float(apart.max()))
            total += float(apart.sum())
            values += apart.size
    return Parity(largest, total / values if values else 0.0, agreeing, items)


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    """Any datatype but BYTES, as doubles: an integer over 2**53 loses its last digits."""
    if tensor.datatype == "BF16":  # the upper half of a float
        halves = np.frombuffer(tensor.data, "<u2").astype("<u4") << 16
        return halves.view("<f4").astype(np.float64).reshape(tensor.shape)
    return tensor.numpy().astype(np.float64)


def _differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute differences; two NaN or two equal infinities are 0 apart, NaN and a number infinitely far."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
    apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    apart[np.isnan(apart)] = math.inf
    return apart
