"""What both kinds of model have in common: signatures, and the tensors that go in and come out.

Checks and their words are those of tensorflow_serving/servables/tensorflow/predict_util.cc and
tensorflow/cc/saved_model/util.cc.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from services.tfserving.servables import ServingError

DEFAULT_SIGNATURE = "serving_default"
_FIELDS: Mapping[Any, tuple[str, type[np.generic] | None]] = {
    tf.float32: ("float_val", None),
    tf.float64: ("double_val", None),
    tf.int64: ("int64_val", None),
    tf.uint32: ("uint32_val", None),
    tf.uint64: ("uint64_val", None),
    tf.bool: ("bool_val", None),
    tf.string: ("string_val", None),
    **dict.fromkeys((tf.int32, tf.int16, tf.int8, tf.uint16, tf.uint8), ("int_val", None)),
    **dict.fromkeys((tf.float16, tf.bfloat16), ("half_val", np.uint16)),
}
"""Typed field of each datatype, and how its bits are seen where the field holds bits."""


class Model(Protocol):
    """A version, loaded and ready."""

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """What it says about itself."""
        ...

    def predict(
        self, signature_name: str, inputs: Mapping[str, TensorProto], output_filter: Iterable[str]
    ) -> dict[str, NDArray[Any]]:
        """Run a signature: its outputs, or those of `output_filter`.

        Raises:
            ServingError: with the real server's code and words.
        """
        ...


def find_signature(signatures: Mapping[str, SignatureDef], name: str) -> SignatureDef:
    """The signature of that name (ServingError when there is none)."""
    if name not in signatures:
        message = f'Serving signature key "{name}" not found.'
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)
    return signatures[name]


def read_inputs(signature: SignatureDef, sent: Mapping[str, TensorProto]) -> dict[str, NDArray[Any]]:
    """The inputs as arrays, in order of name (ServingError when they do not fit)."""
    known, got = set(signature.inputs), set(sent)
    if len(got) != len(known):
        raise _invalid(
            f"input size does not match signature: {len(got)}!={len(known)} len({_set(got)}) != "
            f"len({_set(known)}). Sent extra: {_set(got - known)}. Missing but required: {_set(known - got)}."
        )
    arrays = {}
    for index, name in enumerate(sorted(known)):
        if name not in sent:
            raise _invalid(
                f"Signature input alias: {name}(feed name: {signature.inputs[name].name}) not found in "
                f"request and no default value provided. Inputs expected to be in the request {_set(got)}, "
                "or default input alias set: "
            )
        try:
            arrays[name] = tf.make_ndarray(sent[name])
        except (ValueError, TypeError) as error:
            raise _invalid(f"tensor parsing error: {name}") from error
        expected, provided = (tf.as_dtype(each.dtype).name for each in (signature.inputs[name], sent[name]))
        if provided != expected:
            raise _invalid(
                f"Expects arg[{index}] to be {_c_name(expected)} but {_c_name(provided)} is provided"
            )
    return arrays


def wanted_outputs(signature: SignatureDef, output_filter: Iterable[str]) -> list[str]:
    """The outputs to fetch: those of the filter, else all (ServingError when there is no such one)."""
    wanted = list(output_filter)
    for position, name in enumerate(wanted):
        if name not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if name in wanted[:position]:
            raise _invalid(f"duplicate output tensor alias: {name}")
    return wanted or sorted(signature.outputs)


def fill(proto: TensorProto, value: Any, *, as_content: bool) -> None:
    """Write an output: one value each in the typed field, or raw bytes when the server is told so."""
    array = np.asarray(value)
    dtype = tf.as_dtype(array.dtype)
    proto.dtype = dtype.as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content and dtype is not tf.string:
        proto.tensor_content = array.tobytes()
        return
    field, bits = _FIELDS[dtype]
    getattr(proto, field).extend((array if bits is None else array.view(bits)).ravel().tolist())


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _c_name(dtype: str) -> str:
    """The C++ side's names of types."""
    return {"float32": "float", "float64": "double", "float16": "half"}.get(dtype, dtype)
