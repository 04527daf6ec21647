"""The digits under BentoML, JSON: `{"images": [[784 numbers]]}` in, `[[10]]` out; `bentoml serve` runs it.

Environment: BENCH_ONNX, the model.
"""

import os
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from bentoml.validators import DType

BATCH = 32
LATENCY_MS = 60_000
"""How long a request may wait for its batch before it is refused: never, so that none fails under load."""

Rows = Annotated[np.ndarray, DType("float32")]


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1024}, metrics={"enabled": True})
class Digits:
    """One worker with adaptive batching."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options)

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=LATENCY_MS)
    def infer(self, images: Rows) -> Rows:
        """Answer a batch, FP32 [n, 784]."""
        answers: Rows = self._session.run(None, {"image": images.reshape(-1, 28, 28, 1)})[0]
        return answers
