"""The digits under mosec, JSON: `{"image": [784 numbers]}` in, `{"probabilities": [10]}` out.

Environment: BENCH_ONNX, the model. Arguments: mosec's own.
"""

import os
from typing import Any

import numpy as np
import onnxruntime
from mosec import Runtime, Server, Worker, coordinator
from mosec.protocol import Protocol

from loadtests.peers.whole_reads import WholeReads

BATCH = 32
NO_WAIT_MS = 1
"""mosec takes what has come when the worker is free, and waits so long for more."""


def whole_protocol(*arguments: Any, **options: Any) -> Protocol:
    """mosec's, without the bug that ends a worker under load: see `WholeReads`."""
    protocol = Protocol(*arguments, **options)
    protocol.socket = WholeReads(protocol.socket)
    return protocol


coordinator.Protocol = whole_protocol  # at import: each worker is a new process, which imports this file


class Digits(Worker):
    """One process with the model; requests that come together are one batch."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options)

    def forward(self, data: list[Any]) -> list[Any]:
        """Answer a batch."""
        images = np.asarray([item["image"] for item in data], np.float32).reshape(-1, 28, 28, 1)
        (answers,) = self._session.run(None, {"image": images})
        return [{"probabilities": row.tolist()} for row in answers]


class BinaryDigits(Digits):
    """The same, with raw FP32 bytes in and out, as mosec lets a worker choose."""

    def deserialize(self, data: bytes) -> Any:
        """FP32 [784]."""
        return np.frombuffer(data, np.float32)

    def serialize(self, data: Any) -> bytes:
        """FP32 [10]."""
        return bytes(data)

    def forward(self, data: list[Any]) -> list[Any]:
        """Answer a batch."""
        (answers,) = self._session.run(None, {"image": np.stack(data).reshape(-1, 28, 28, 1)})
        return [row.tobytes() for row in answers]


if __name__ == "__main__":
    server = Server()
    routes = {"/json": Digits, "/binary": BinaryDigits}
    server.register_runtime(
        {
            route: [Runtime(worker, num=1, max_batch_size=BATCH, max_wait_time=NO_WAIT_MS)]
            for route, worker in routes.items()
        }
    )
    server.run()
