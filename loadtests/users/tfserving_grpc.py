"""A user of TF Serving's gRPC API."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from loadtests.inputs.questions import Question
from loadtests.users.unary import UnaryUser
from services.protocol import tfserving_pb2 as tfs

DATATYPES = {"float32": tfs.DT_FLOAT, "int64": tfs.DT_INT64}
"""By numpy's names."""


class TFServingGrpcUser(UnaryUser):
    """Sends `tensor_content`, and reads typed fields."""

    protocol = "TF Serving gRPC"
    method = "/tensorflow.serving.PredictionService/Predict"

    def encode(self, question: Question) -> tfs.PredictRequest:
        """The default version's only signature."""
        inputs = {name: _proto(value) for name, value in question.inputs.items()}
        return tfs.PredictRequest(model_spec=tfs.ModelSpec(name=question.model), inputs=inputs)

    def check(self, question: Question, reply: bytes) -> None:
        """The only output's numbers."""
        (output,) = tfs.PredictResponse.FromString(reply).outputs.values()
        numbers: Sequence[float] = output.float_val
        question.right.check_values(numbers)


def _proto(value: NDArray[Any]) -> tfs.TensorProto:
    shape = tfs.TensorShapeProto(dim=[tfs.TensorShapeProto.Dim(size=size) for size in value.shape])
    return tfs.TensorProto(
        dtype=DATATYPES[value.dtype.name], tensor_shape=shape, tensor_content=value.tobytes()
    )
