"""Inferway: one gateway in front of TorchServe, TF Serving and Triton."""

import os

# ONNX Runtime reports each process to its maker unless it is told not to before it is imported. Where that
# cannot be reached, a process that stops is kept for ten seconds too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
