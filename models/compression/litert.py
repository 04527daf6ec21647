"""Static int8 in LiteRT, with the very numbers that quantize.py's ONNX file for CPUs has.

One pool serves both, so their answers must agree. TensorFlow's own post-training quantization takes 8 bits
for weights where ONNX Runtime's file has 7, and turns softmax into int8 too; of 10,000 labels 10 differed.
Hence ranges and scales are written into the graph as FakeQuant operators (B. Jacob et al., arXiv:1712.05877),
which the converter takes over as they are.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models import exporting

Activation = Callable[[str, tf.Tensor], tf.Tensor]
"""Passes on what a layer answers, by a name of its own; an int8 network rounds it there."""
Kernel = Callable[[NDArray[np.float32]], tf.Tensor]
"""Passes on a layer's weights, output channels last; an int8 network rounds them there."""
Logits = Callable[[tf.Tensor, Activation, Kernel], tf.Tensor]
"""A network from its input (also an activation) to what softmax turns into probabilities."""
WEIGHT_LIMIT = 64
"""The largest whole number of a weight: quantize.py says why it is not 127."""


def write(logits: Logits, model: Path, items: Iterable[NDArray[np.float32]], out: Path) -> None:
    """Write a folder with `model.tflite`, whose input and output are the contract's.

    Args:
        logits: the network; every input of a convolution, and the result, passes through its Activation.
            A dense layer is a convolution of 1 x 1, since the converter gives a matrix no scale a column.
        model: the model's folder.
        items: the inputs that the ONNX file was calibrated on, without the batch axis.
        out: the folder, which does not exist yet.
    """
    ranges = _ranges(logits, items)

    def activation(name: str, value: tf.Tensor) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(value, *ranges[name])

    def serve(item: tf.Tensor) -> dict[str, tf.Tensor]:
        found = logits(item, activation, _rounded)
        # softmax, spelled so that the converter does not know it and leaves it in float
        parts = tf.exp(found - tf.reduce_max(found, 1, keepdims=True))
        return {"probabilities": parts * tf.math.reciprocal(tf.reduce_sum(parts, 1, keepdims=True))}

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fake_quantized"
        exporting.savedmodel(serve, model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        content = converter.convert()
    out.mkdir()
    (out / "model.tflite").write_bytes(content)


def _ranges(logits: Logits, items: Iterable[NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    """The extremes of each activation, 0 among them, as ONNX Runtime's calibration takes them."""
    ranges: dict[str, tuple[float, float]] = {}

    def seen(name: str, value: tf.Tensor) -> tf.Tensor:
        low, high = ranges.get(name, (0.0, 0.0))
        ranges[name] = (min(low, float(tf.reduce_min(value))), max(high, float(tf.reduce_max(value))))
        return value

    for item in items:
        logits(tf.constant(item[np.newaxis]), seen, tf.constant)
    return ranges


def _rounded(kernel: NDArray[np.float32]) -> tf.Tensor:
    scale = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / WEIGHT_LIMIT
    limit = 127 * scale  # 127 steps to each side are 8 bits, of which the weights use the inner 64
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(kernel, -limit, limit, narrow_range=True)
