"""Write the network in the form that an engine loads; models/exporting.py has the command line."""

from pathlib import Path
from typing import TYPE_CHECKING

from models import exporting

if TYPE_CHECKING:
    import tensorflow as tf
    from torch import nn

MODEL = Path(__file__).parent


def _network(weights: Path) -> "nn.Module":
    from models.diamonds.network import of

    return of(exporting.load(weights))


def torchscript(weights: Path, out: Path) -> None:
    """Write a TorchScript file."""
    exporting.torchscript(_network(weights), MODEL, out)


def onnx(weights: Path, out: Path) -> None:
    """Write an ONNX file."""
    exporting.onnx(_network(weights), MODEL, out)


def savedmodel(weights: Path, out: Path) -> None:
    """Write a SavedModel folder."""
    import tensorflow as tf
    from safetensors.numpy import load_file

    values = {name: tf.constant(value.astype("float32")) for name, value in load_file(weights).items()}

    def serve(features: "tf.Tensor") -> "dict[str, tf.Tensor]":
        product = tf.matmul(features, values["linear.weight"], transpose_b=True)
        return {"log_price": product + values["linear.bias"]}

    exporting.savedmodel(serve, MODEL, out)


if __name__ == "__main__":
    exporting.main({"onnx": onnx, "torchscript": torchscript, "savedmodel": savedmodel})
