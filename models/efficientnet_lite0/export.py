"""Write the network in the form that an engine loads; models/exporting.py has the command line."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models import exporting, samples
from models.efficientnet_lite0.architecture import STRIDES
from models.efficientnet_lite0.transform import to_inputs

if TYPE_CHECKING:
    import tensorflow as tf
    from torch import nn

MODEL = Path(__file__).parent
FLOAT = ("/stem/conv/Conv", "/Softmax")
"""ONNX nodes that stay in float: of all rounding errors the stem's counts most, and float is cheap there."""
CORRECTED_BY = 48
"""Calibration photos that the biases are corrected by: all of them are in memory at once."""


def _network(weights: Path) -> "nn.Module":
    from models.efficientnet_lite0.network import of

    return of(exporting.load(weights))


def _quantized(weights: Path, out: Path, *, tensorrt: bool) -> None:
    import torch

    from models.compression import bias

    network = _network(weights)
    payloads = samples.read(MODEL / "calibration.zip").payloads[:CORRECTED_BY]
    images = np.stack([to_inputs(payload)["image"] for payload in payloads])
    bias.correct(network, torch.from_numpy(images), tensorrt=tensorrt, ignored=[network.stem.conv])
    exporting.onnx_int8(
        network, MODEL, out, to_inputs, tensorrt=tensorrt, exclude=FLOAT, float_outputs=["Gemm"]
    )


def torchscript(weights: Path, out: Path) -> None:
    """Write a TorchScript file."""
    exporting.torchscript(_network(weights), MODEL, out)


def onnx(weights: Path, out: Path) -> None:
    """Write an ONNX file."""
    exporting.onnx(_network(weights), MODEL, out)


def onnx_int8(weights: Path, out: Path) -> None:
    """Write an ONNX file quantized for ONNX Runtime."""
    _quantized(weights, out, tensorrt=False)


def onnx_int8_tensorrt(weights: Path, out: Path) -> None:
    """Write an ONNX file quantized for TensorRT."""
    _quantized(weights, out, tensorrt=True)


def savedmodel(weights: Path, out: Path) -> None:
    """Write a SavedModel folder: the layers of network.py, in TensorFlow's words."""
    import tensorflow as tf
    from safetensors.numpy import load_file

    values = {name: tf.constant(value.astype("float32")) for name, value in load_file(weights).items()}

    def convolve(x: "tf.Tensor", name: str, stride: int = 1) -> "tf.Tensor":
        # kernels are [out, in, row, column] in the checkpoint; TensorFlow has rows and columns first
        kernel, bias = tf.transpose(values[f"{name}.conv.weight"], [2, 3, 1, 0]), values[f"{name}.conv.bias"]
        if name.endswith("depthwise"):
            kernel = tf.transpose(kernel, [0, 1, 3, 2])
            return tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME") + bias
        return tf.nn.conv2d(x, kernel, stride, "SAME") + bias

    def serve(image: "tf.Tensor") -> "dict[str, tf.Tensor]":
        x = tf.nn.relu6(convolve(image, "stem", 2))
        for i, stride in enumerate(STRIDES):
            block = f"blocks.{i}."
            expands = f"{block}expand.conv.weight" in values
            inner = tf.nn.relu6(convolve(x, f"{block}expand")) if expands else x
            inner = tf.nn.relu6(convolve(inner, f"{block}depthwise", stride))
            inner = convolve(inner, f"{block}project")
            x = x + inner if stride == 1 and inner.shape[3] == x.shape[3] else inner
        x = tf.reduce_mean(tf.nn.relu6(convolve(x, "head")), [1, 2])
        logits = tf.matmul(x, values["classify.weight"], transpose_b=True) + values["classify.bias"]
        return {"probabilities": tf.nn.softmax(logits)}

    exporting.savedmodel(serve, MODEL, out)


if __name__ == "__main__":
    exporting.main(
        {
            "onnx": onnx,
            "onnx_int8": onnx_int8,
            "onnx_int8_tensorrt": onnx_int8_tensorrt,
            "torchscript": torchscript,
            "savedmodel": savedmodel,
        }
    )
