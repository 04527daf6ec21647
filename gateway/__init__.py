"""Inferway: one gateway in front of TorchServe, TF Serving and Triton."""

__version__ = "0.1.0"
