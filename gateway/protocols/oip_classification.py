"""Triton's classification extension: an output as the best classes of each row, instead of its values.

See https://github.com/triton-inference-server/server, docs/protocol/extension_classification.md. It is done
at the edge, after the caches, so that a classified answer and a plain one share one inference.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidTensor
from gateway.inference import Tensor

UNSUPPORTED = frozenset({"BOOL", "BYTES", "FP16", "BF16"})
"""Datatypes that Triton does not classify."""


def check_classifiable(name: str, datatype: str) -> None:
    """See, before any inference, that an output can be classified.

    Raises:
        InvalidTensor: its datatype has no best value.
    """
    if datatype in UNSUPPORTED:
        raise InvalidTensor(name, expected="a numeric output for 'classification'", got=datatype)


def classify(tensor: Tensor, classes: int, labels: Sequence[str], *, batched: bool) -> Tensor:
    """The best `classes` of each row as BYTES `value:index:label`, best first.

    Args:
        tensor: the output, its first axis the batch if `batched`.
        classes: how many to give of each row; fewer where a row has fewer.
        labels: what each entry of the last axis means; without them the text is `value:index`.
        batched: whether there is a batch axis; without one the whole tensor is one row.

    Returns:
        BYTES of shape [batch, classes], or [classes] without a batch axis. A NaN is worse than any number.
    """
    batch = tensor.shape[:1] if batched else ()
    rows: NDArray[Any] = tensor.numpy().reshape(*(batch or (1,)), -1)
    count = min(classes, rows.shape[1])
    # Both negations reverse the order of every value, also of the smallest and of unsigned ones.
    order = np.argsort(-rows if rows.dtype.kind == "f" else ~rows, axis=1, kind="stable")[:, :count]
    best = np.take_along_axis(rows, order, axis=1)
    places = order.ravel().tolist()
    items = [
        _text(value, place, labels).encode()
        for value, place in zip(best.ravel().tolist(), places, strict=True)
    ]
    return Tensor.of_bytes(tensor.name, (*batch, count), items)


def _text(value: float, place: int, labels: Sequence[str]) -> str:
    number = f"{value:f}" if isinstance(value, float) else str(value)
    return f"{number}:{place}:{labels[place % len(labels)]}" if labels else f"{number}:{place}"
