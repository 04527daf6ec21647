"""Runs an ONNX model inside Triton's python backend, where Triton has no ONNX Runtime of its own.

Every version folder of a repository rendered for platform `python` holds a copy of this file as `model.py`,
beside its `model.onnx`. It may import only what the server's environment has: numpy, onnxruntime and Triton's
own module.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found]  # only inside the server

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it reports each process to its maker
import onnxruntime

THREADS = "intra_op_thread_count"
"""The parameter of config.pbtxt that Triton's own ONNX Runtime backend also reads."""


class TritonPythonModel:
    """The class that Triton finds: `initialize` once an instance, then `execute` once a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `model.onnx`; `args` are Triton's: the configuration as JSON, repository and version."""
        config = json.loads(args["model_config"])
        self.inputs = [spec["name"] for spec in config["input"]]
        self.batches = config["max_batch_size"] > 0
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"][THREADS]["string_value"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options)
        self.outputs = [output.name for output in self.session.get_outputs()]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch in one run; when that fails, each request alone, so that a bad one fails alone."""
        inputs = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]
            for request in requests
        ]
        try:
            answers = self._run(inputs)
        except Exception as error:  # noqa: BLE001 - a model may raise anything at all
            if len(requests) > 1:
                return [self.execute([request])[0] for request in requests]
            return [triton.InferenceResponse(error=triton.TritonError(f"the model failed: {error}"))]
        return [_response(request, answer) for request, answer in zip(requests, answers, strict=True)]

    def _run(self, batch: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """Join along axis 0, run, split; without a batch axis one by one."""
        if not self.batches and len(batch) > 1:
            return [answer for one in batch for answer in self._run([one])]
        joined = [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*batch, strict=True)]
        results = self.session.run(self.outputs, dict(zip(self.inputs, joined, strict=True)))
        if len(batch) == 1:
            return [dict(zip(self.outputs, results, strict=True))]
        ends = np.cumsum([len(tensors[0]) for tensors in batch])[:-1]
        rows = zip(*(np.split(result, ends) for result in results), strict=True)
        return [dict(zip(self.outputs, row, strict=True)) for row in rows]


def _response(request: Any, answer: dict[str, Any]) -> Any:
    wanted = request.requested_output_names()
    return triton.InferenceResponse([triton.Tensor(name, answer[name]) for name in wanted])
