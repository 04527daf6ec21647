"""Write the network in the forms that the engines load; models/exporting.py has the command line.

The SavedModel is written down layer by layer, so that TensorFlow's environment needs no torch. There is no
LiteRT form: the README says why.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models import exporting
from models.mobilenet_v2.sizes import ADDS, EPSILON, STRIDES
from models.mobilenet_v2.transform import to_inputs

if TYPE_CHECKING:
    from models.mobilenet_v2.network import Network

MODEL = Path(__file__).parent
FLOAT = (
    "/stem/conv/Conv", "/stem/Clip", "/blocks.0/depthwise/conv/Conv", "/blocks.0/depthwise/Clip",
    "/blocks.0/project/conv/Conv", "/Softmax",
)  # fmt: skip
"""ONNX nodes that stay in float. In int8 the first layers, whose channels differ most in range, cost a point
of accuracy and save no time; softmax gives probabilities as fine as ever."""


def onnx(weights: Path, out: Path) -> None:
    """Write an ONNX file."""
    exporting.onnx(_network(weights), MODEL, out)


def onnx_int8(weights: Path, out: Path, *, tensorrt: bool = False) -> None:
    """Write an int8 ONNX file."""
    exporting.onnx_int8(_network(weights), MODEL, out, to_inputs, tensorrt=tensorrt, exclude=FLOAT)


def onnx_int8_tensorrt(weights: Path, out: Path) -> None:
    """Write an int8 ONNX file for TensorRT."""
    onnx_int8(weights, out, tensorrt=True)


def torchscript(weights: Path, out: Path) -> None:
    """Write a TorchScript file."""
    exporting.torchscript(_network(weights), MODEL, out)


def savedmodel(weights: Path, out: Path) -> None:
    """Write a SavedModel folder."""
    import tensorflow as tf

    layers = folded(weights)

    def linear(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        kernel, bias = layers[name]
        if name.endswith("depthwise"):
            return tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME") + bias
        return tf.nn.conv2d(x, kernel, stride, "SAME") + bias

    def convolution(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        return tf.nn.relu6(linear(x, name, stride))

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        x = convolution(image, "stem", 2)
        for index, stride in enumerate(STRIDES):
            block = f"blocks.{index}"
            inner = convolution(x, f"{block}.expand") if index else x
            inner = convolution(inner, f"{block}.depthwise", stride)
            projected = linear(inner, f"{block}.project")
            x = x + projected if index in ADDS else projected
        kernel, bias = layers["dense"]
        features = tf.reduce_mean(convolution(x, "top"), [1, 2])
        return {"probabilities": tf.nn.softmax(features @ kernel + bias)}

    exporting.savedmodel(serve, MODEL, out)


def folded(weights: Path) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The kernel and bias of each convolution with its norm in them, and of the dense layer.

    Kernels are as TensorFlow has them: rows, columns, in, out; a depthwise one rows, columns, channels, 1;
    the dense one in, out.
    """
    from safetensors.numpy import load_file

    state = {name: value.astype(np.float64) for name, value in load_file(weights).items()}
    layers: dict[str, Any] = {"dense": (state["dense.weight"].T, state["dense.bias"])}
    for name in (key.removesuffix(".conv.weight") for key in state if key.endswith(".conv.weight")):
        scale, bias, mean, variance = (
            state[f"{name}.norm.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + EPSILON)
        kernel = (state[f"{name}.conv.weight"].T * factor).transpose(1, 0, 2, 3)
        if name.endswith("depthwise"):  # [rows, columns, 1, channels] so far
            kernel = kernel.transpose(0, 1, 3, 2)
        layers[name] = (kernel, bias - mean * factor)
    return {
        name: (kernel.astype(np.float32), bias.astype(np.float32)) for name, (kernel, bias) in layers.items()
    }


def _network(weights: Path) -> "Network":
    from models.mobilenet_v2.network import of

    return of(exporting.load(weights))


FORMS: dict[str, exporting.Form] = {
    "onnx": onnx,
    "onnx_int8": onnx_int8,
    "onnx_int8_tensorrt": onnx_int8_tensorrt,
    "torchscript": torchscript,
    "savedmodel": savedmodel,
}

if __name__ == "__main__":
    exporting.main(FORMS)
