"""Write the network in the forms that the engines load; the command line is models/exporting.py's.

SavedModel and LiteRT are written down layer by layer, so that TensorFlow's environment needs no torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models import exporting, samples
from models.cnn_mnist.transform import to_inputs

if TYPE_CHECKING:
    from models.cnn_mnist.network import Network
    from models.compression import litert

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


def _network(weights: Path) -> "Network":
    from models.cnn_mnist.network import of

    return of(exporting.load(weights))


def _logits(weights: Path) -> "litert.Logits":
    """network.py's `logits` in TensorFlow, dense layers as convolutions of all rows and columns."""
    import tensorflow as tf
    from safetensors.numpy import load_file

    from models.compression import litert

    values = {name: value.astype(np.float32) for name, value in load_file(weights).items()}
    # flattened channels first in the checkpoint: [hidden, channel, row, column], as a convolution's kernel is
    values["dense1.weight"] = values["dense1.weight"].reshape(len(values["dense1.bias"]), -1, 7, 7)
    values["dense2.weight"] = values["dense2.weight"][:, :, np.newaxis, np.newaxis]

    def logits(image: tf.Tensor, activation: litert.Activation, kernel: litert.Kernel) -> tf.Tensor:
        def convolution(hidden: tf.Tensor, name: str, padding: str) -> tf.Tensor:
            weight = kernel(values[f"{name}.weight"].transpose(2, 3, 1, 0))  # TensorFlow has the filter last
            return tf.nn.conv2d(hidden, weight, 1, padding) + values[f"{name}.bias"]

        hidden = activation("image", image)
        for name in ("conv1", "conv2"):
            hidden = activation(name, tf.nn.relu(convolution(hidden, name, "SAME")))
            hidden = tf.nn.max_pool2d(hidden, 2, 2, "VALID")
        hidden = activation("dense1", tf.nn.relu(convolution(hidden, "dense1", "VALID")))
        return tf.reshape(activation("dense2", convolution(hidden, "dense2", "VALID")), [-1, 10])

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
