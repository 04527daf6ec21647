"""The digits under MLServer, over the Open Inference Protocol; `mlserver start` runs it.

Environment: BENCH_ONNX, the model.
"""

import os

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    """A custom runtime, since MLServer has none for ONNX; it gets the batches that MLServer makes."""

    async def load(self) -> bool:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch."""
        image = NumpyCodec.decode_input(payload.inputs[0])
        (answers,) = self._session.run(None, {"image": image})
        output = NumpyCodec.encode_output("probabilities", answers)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
