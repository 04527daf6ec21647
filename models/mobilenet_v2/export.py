"""Write the network in the forms that the engines load; models/exporting.py has the command line.

The SavedModel and LiteRT are written down layer by layer, so that TensorFlow's environment needs no torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models import exporting, samples
from models.mobilenet_v2.sizes import ADDS, EPSILON, STRIDES
from models.mobilenet_v2.transform import to_inputs

if TYPE_CHECKING:
    from models.compression import litert
    from models.mobilenet_v2.network import Network

MODEL = Path(__file__).parent


def onnx(weights: Path, out: Path) -> None:
    """Write an ONNX file."""
    exporting.onnx(_network(weights), MODEL, out)


def onnx_int8(weights: Path, out: Path, *, tensorrt: bool = False) -> None:
    """Write an int8 ONNX file; softmax stays in float, so that probabilities are as fine as ever."""
    exporting.onnx_int8(_network(weights), MODEL, out, to_inputs, tensorrt=tensorrt, exclude=["/Softmax"])


def onnx_int8_tensorrt(weights: Path, out: Path) -> None:
    """Write an int8 ONNX file for TensorRT."""
    onnx_int8(weights, out, tensorrt=True)


def torchscript(weights: Path, out: Path) -> None:
    """Write a TorchScript file."""
    exporting.torchscript(_network(weights), MODEL, out)


def savedmodel(weights: Path, out: Path) -> None:
    """Write a SavedModel folder."""
    import tensorflow as tf

    logits = _logits(weights)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(logits(image, lambda _, value: value, tf.constant))}

    exporting.savedmodel(serve, MODEL, out)


def litert_int8(weights: Path, out: Path) -> None:
    """Write a folder with an int8 LiteRT file, calibrated on the images that the int8 ONNX file is."""
    from models.compression import litert

    payloads = samples.read(MODEL / "calibration.zip").payloads
    litert.write(_logits(weights), MODEL, (to_inputs(payload)["image"] for payload in payloads), out)


def folded(weights: Path) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The kernel and bias of each convolution with its norm in them, and of the dense layer as a convolution.

    Kernels are as TensorFlow has them: rows, columns, in, out; a depthwise one rows, columns, channels.
    """
    from safetensors.numpy import load_file

    state = {name: value.astype(np.float64) for name, value in load_file(weights).items()}
    layers: dict[str, Any] = {"dense": (state["dense.weight"].T[np.newaxis, np.newaxis], state["dense.bias"])}
    for name in (key.removesuffix(".conv.weight") for key in state if key.endswith(".conv.weight")):
        scale, bias, mean, variance = (
            state[f"{name}.norm.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + EPSILON)
        kernel = (state[f"{name}.conv.weight"].T * factor).transpose(1, 0, 2, 3)
        layers[name] = (kernel[:, :, 0] if name.endswith("depthwise") else kernel, bias - mean * factor)
    return {
        name: (kernel.astype(np.float32), bias.astype(np.float32)) for name, (kernel, bias) in layers.items()
    }


def _network(weights: Path) -> "Network":
    from models.mobilenet_v2.network import of

    return of(exporting.load(weights))


def _logits(weights: Path) -> "litert.Logits":
    """network.py's `logits` in TensorFlow."""
    import tensorflow as tf

    from models.compression import litert

    layers = folded(weights)

    def logits(image: tf.Tensor, activation: litert.Activation, kernel: litert.Kernel) -> tf.Tensor:
        def linear(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
            values, bias = layers[name]
            if name.endswith("depthwise"):
                weight = kernel(values)[..., tf.newaxis]
                return tf.nn.depthwise_conv2d(x, weight, [1, stride, stride, 1], "SAME") + bias
            return tf.nn.conv2d(x, kernel(values), stride, "SAME") + bias

        def convolution(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
            return activation(name, tf.nn.relu6(linear(x, name, stride)))

        x = convolution(activation("image", image), "stem", 2)
        for index, stride in enumerate(STRIDES):
            block = f"blocks.{index}"
            inner = convolution(x, f"{block}.expand") if index else x
            inner = convolution(inner, f"{block}.depthwise", stride)
            projected = activation(f"{block}.project", linear(inner, f"{block}.project"))
            x = activation(block, x + projected) if index in ADDS else projected
        x = activation("mean", tf.reduce_mean(convolution(x, "top"), [1, 2], keepdims=True))
        return tf.reshape(activation("dense", linear(x, "dense")), [-1, len(layers["dense"][1])])

    return logits


FORMS: dict[str, exporting.Form] = {
    "onnx": onnx,
    "onnx_int8": onnx_int8,
    "onnx_int8_tensorrt": onnx_int8_tensorrt,
    "torchscript": torchscript,
    "savedmodel": savedmodel,
    "litert_int8": litert_int8,
}

if __name__ == "__main__":
    exporting.main(FORMS)
