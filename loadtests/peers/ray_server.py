"""The digits under Ray Serve, JSON: `{"image": [784 numbers]}` in, `{"probabilities": [10]}` out.

Environment: BENCH_ONNX, the model. Argument: the port. Ends, and all of Ray with it, on SIGTERM.
"""

import os
import signal
import sys
from typing import Any

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

BATCH = 32
WAIT_SECONDS = 0.001
MEMORY_BYTES = 128 * 1024 * 1024


@serve.deployment(num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1})
class Digits:
    """One replica; requests that come within a millisecond are one batch."""

    def __init__(self, onnx: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(onnx, options)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def infer(self, images: list[Any]) -> list[Any]:
        """Answer a batch of FP32 [784]."""
        (answers,) = self._session.run(None, {"image": np.stack(images).reshape(-1, 28, 28, 1)})
        return list(answers)

    async def __call__(self, request: Request) -> Response:
        """Answer one request; a `JSONResponse` says its length, a plain dict would come in chunks."""
        image = np.asarray((await request.json())["image"], np.float32)
        return JSONResponse({"probabilities": (await self.infer(image)).tolist()})


if __name__ == "__main__":
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=MEMORY_BYTES,
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    deployment: Any = Digits  # what the decorator makes of the class
    serve.run(deployment.bind(os.environ["BENCH_ONNX"]), blocking=True)
