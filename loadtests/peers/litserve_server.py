"""The digits under LitServe, JSON: `{"image": [784 numbers]}` in, `{"probabilities": [10]}` out.

Environment: BENCH_ONNX, the model. Argument: the port.
"""

import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime

BATCH = 32
WAIT_SECONDS = 0.001


class Digits(litserve.LitAPI):
    """One worker; requests that come within a millisecond are one batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options)

    # FastAPI would validate by these two annotations; without any LitServe takes JSON as it comes.
    def decode_request(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """FP32 [28, 28, 1]."""
        return np.asarray(request["image"], np.float32).reshape(28, 28, 1)

    def predict(self, x: Any) -> Any:
        """Answer a batch, FP32 [n, 28, 28, 1]."""
        return self._session.run(None, {"image": x})[0]

    def encode_response(self, output):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """One answer."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Digits(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
