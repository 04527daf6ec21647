"""One loaded SavedModel: what it says about itself, and Predict.

It runs as in the real server: a TensorFlow session over the graph that the loader restores, fed and fetched
by tensor names of a signature. Checks and their words are those of tensorflow_serving/servables/tensorflow/
predict_util.cc and tensorflow/cc/saved_model/util.cc; what fails inside the graph has TensorFlow's own text.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.config_pb2 import CallableOptions
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


class SavedModel:
    """A version, loaded and ready.

    Args:
        folder: the version's folder.
        intra_op_threads: threads of one operation; 0: as many as cores.
        inter_op_threads: operations at a time; 0: as many as cores.
    """

    def __init__(self, folder: Path, *, intra_op_threads: int, inter_op_threads: int) -> None:
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads, inter_op_parallelism_threads=inter_op_threads
        )
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self.signatures: dict[str, SignatureDef] = dict(loaded.signature_def)
        self._callables: dict[tuple[str, ...], Callable[..., list[Any]]] = {}

    def predict(
        self, signature_name: str, inputs: Mapping[str, TensorProto], output_filter: Iterable[str]
    ) -> dict[str, NDArray[Any]]:
        """Run a signature.

        Raises:
            ServingError: with the real server's code and words.
        """
        signature = self.signatures.get(signature_name)
        if signature is None:
            message = f'Serving signature key "{signature_name}" not found.'
            raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)
        arrays = _inputs(signature, inputs)
        names = _outputs(signature, list(output_filter))
        feeds = [signature.inputs[name].name for name in arrays]
        run = self._callable(feeds, [signature.outputs[name].name for name in names])
        try:
            values = run(*arrays.values())
        except tf.errors.OpError as error:
            code = next(each for each in grpc.StatusCode if each.value[0] == error.error_code)
            raise ServingError(code, error.message) from error
        return dict(zip(names, values, strict=True))

    def _callable(self, feeds: list[str], fetches: list[str]) -> Callable[..., list[Any]]:
        """The session's run for these names, bound once: a third of what `Session.run` costs."""
        key = (*feeds, "", *fetches)
        if key not in self._callables:
            options = CallableOptions(feed=feeds, fetch=fetches)
            self._callables[key] = self._session._make_callable_from_options(options)  # noqa: SLF001
        return self._callables[key]


def _inputs(signature: SignatureDef, sent: Mapping[str, TensorProto]) -> dict[str, NDArray[Any]]:
    """The inputs as arrays, in order of name."""
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


def _outputs(signature: SignatureDef, wanted: list[str]) -> list[str]:
    """The outputs to fetch: those wanted, else all."""
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
