"""One loaded `model.tflite`, run by LiteRT's interpreter as in the real server with `--prefer_tflite_model`.

It follows tensorflow_serving/servables/tensorflow/tflite_session.cc: one interpreter, one call at a time; its
one signature has the file's own tensor names, without what follows a colon (`tensor_names.py` sets them); an
input of another shape than the last one's makes the interpreter allocate its tensors anew.
"""

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from services.tfserving.servables import ServingError
from services.tfserving.signatures import DEFAULT_SIGNATURE, find_signature, read_inputs, wanted_outputs

FILE = "model.tflite"
PREDICT = "tensorflow/serving/predict"


class LiteModel:
    """A Model.

    Args:
        folder: the version's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._interpreter = Interpreter(model_content=(folder / FILE).read_bytes(), num_threads=1)
        self._lock = threading.Lock()
        self._shapes: tuple[tuple[int, ...], ...] = ()
        inputs = {_name(detail): detail for detail in self._interpreter.get_input_details()}
        outputs = {_name(detail): detail for detail in self._interpreter.get_output_details()}
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = {name: detail["index"] for name, detail in outputs.items()}
        signature = SignatureDef(method_name=PREDICT)
        for infos, details in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for name, detail in details.items():
                infos[name].CopyFrom(_info(detail))
        self.signatures: dict[str, SignatureDef] = {DEFAULT_SIGNATURE: signature}

    def predict(
        self, signature_name: str, inputs: Mapping[str, TensorProto], output_filter: Iterable[str]
    ) -> dict[str, NDArray[Any]]:
        """Run the signature (ServingError when it cannot be)."""
        signature = find_signature(self.signatures, signature_name)
        arrays = read_inputs(signature, inputs)
        names = wanted_outputs(signature, output_filter)
        with self._lock:
            self._allocate(arrays)
            try:
                for name, array in arrays.items():
                    self._interpreter.set_tensor(self._inputs[name], array)
                self._interpreter.invoke()
            except (RuntimeError, ValueError) as error:
                raise self._internal("Failed to invoke TfLite interpreter") from error
            return {name: self._interpreter.get_tensor(self._outputs[name]) for name in names}

    def _allocate(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        shapes = tuple(array.shape for array in arrays.values())
        if shapes == self._shapes:
            return
        try:
            for name, array in arrays.items():
                self._interpreter.resize_tensor_input(self._inputs[name], array.shape)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise self._internal("Failed to allocate tensors") from error
        self._shapes = shapes

    def _internal(self, message: str) -> ServingError:
        self._shapes = ()  # whatever state it is in, the next call starts from its own shapes
        return ServingError(grpc.StatusCode.INTERNAL, message)


def _name(detail: Mapping[str, Any]) -> str:
    """A tensor's name in the signature."""
    name: str = detail["name"]
    return name.partition(":")[0]


def _info(detail: Mapping[str, Any]) -> TensorInfo:
    """What the signature says of a tensor; a free axis is 1, as the file has it."""
    info = TensorInfo(name=detail["name"], dtype=tf.as_dtype(detail["dtype"]).as_datatype_enum)
    for size in detail["shape"]:
        info.tensor_shape.dim.add(size=int(size))
    return info
