"""The body of TensorFlow Serving's REST predict reply: `predictions` (rows) or `outputs` (columns).

Format: https://www.tensorflow.org/tfx/serving/api_rest; what it leaves open is as in the server's
tensorflow_serving/util/json_tensor.cc. NaN and the infinities are written as the tokens `NaN`, `Infinity`
and `-Infinity`; an output whose name ends in `_bytes` as `{"b64": ...}`, other BYTES as text. What is not
UTF-8, and so would break the JSON that the server writes, becomes `{"b64": ...}` too.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.errors import InvalidRequest, Unsupported
from gateway.inference import NUMPY_TYPES, Tensor, split_bytes
from gateway.protocols.oip_json import numbers_to_json

_NOT_IN_JSON = frozenset({"FP16", "BF16"})


def reply_body(outputs: Sequence[Tensor], *, rows: bool) -> bytes:
    """The reply in the form of the request.

    Raises:
        InvalidRequest: the row form of an output without a batch axis.
        Unsupported: a datatype that the server's JSON does not have.
    """
    values = {tensor.name: _values(tensor) for tensor in outputs}
    content: dict[str, Any]
    if rows:
        for tensor in outputs:
            _check_batch(tensor, outputs[0])
        content = {"predictions": _rows(values)}
    else:
        shown = {name: _json(value) for name, value in values.items()}
        content = {"outputs": next(iter(shown.values())) if len(shown) == 1 else shown}
    return orjson.dumps(content)


def _rows(values: dict[str, NDArray[Any]]) -> Any:
    """One entry an instance: the bare value of a single output, else an object of all of them."""
    if len(values) == 1:
        return _json(next(iter(values.values())))
    names = list(values)
    rows = zip(*values.values(), strict=True)
    return [{name: _json(value) for name, value in zip(names, row, strict=True)} for row in rows]


def _check_batch(tensor: Tensor, first: Tensor) -> None:
    if not tensor.shape:
        raise InvalidRequest(f"Tensor name: {tensor.name} has no shape information")
    if tensor.shape[0] < 1:
        raise InvalidRequest(f"Tensor name: {tensor.name} has invalid batch size: {tensor.shape[0]}")
    if tensor.shape[0] != first.shape[0]:
        raise InvalidRequest(
            f"Tensor name: {tensor.name} has inconsistent batch size: {tensor.shape[0]} "
            f"expecting: {first.shape[0]}"
        )


def _values(tensor: Tensor) -> NDArray[Any]:
    """The elements, shaped; BYTES as text or `{"b64": ...}` objects."""
    if tensor.datatype in _NOT_IN_JSON:
        raise Unsupported(f"tensor '{tensor.name}': TF Serving's JSON has no form for {tensor.datatype}")
    if tensor.datatype in NUMPY_TYPES:
        return tensor.numpy()
    values = np.empty(tensor.elements, object)
    values[:] = [_string(item, tensor.name.endswith("_bytes")) for item in split_bytes(tensor)]
    return values.reshape(tensor.shape)


def _string(item: bytes, as_base64: bool) -> str | dict[str, str]:
    if not as_base64:
        try:
            return item.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(item).decode()}
    return {"b64": base64.b64encode(item).decode()}


def _json(value: Any) -> Any:
    """What orjson can write: a tensor's values, or those of one of its rows."""
    values = np.asarray(value)
    return values.tolist() if values.dtype == object else numbers_to_json(values)
