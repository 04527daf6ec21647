"""Writes a small int8 LiteRT network and asks it; run by test_litert.py, where TensorFlow is.

`litert_network.py FOLDER`: FOLDER has `network.npz` (weights as ONNX has them, `images` [N, 8, 8, 1]) and a
model.yaml; it gets `litert/model.tflite` and `answers.npy`, float32 [N, 5].
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from models.compression import litert


def network(values: dict[str, NDArray[np.float32]]) -> litert.Logits:
    """A convolution and a dense layer."""
    dense = values["dense"].reshape(5, 16, 6, 6)

    def logits(image: tf.Tensor, activation: litert.Activation, kernel: litert.Kernel) -> tf.Tensor:
        hidden = activation("image", image)
        hidden = tf.nn.conv2d(hidden, kernel(values["kernel"].transpose(2, 3, 1, 0)), 1, "VALID")
        hidden = activation("hidden", tf.nn.relu(hidden + values["kernel_bias"]))
        scores = tf.nn.conv2d(hidden, kernel(dense.transpose(2, 3, 1, 0)), 1, "VALID")
        return tf.reshape(activation("scores", scores + values["dense_bias"]), [-1, 5])

    return logits


def main(folder: Path) -> None:
    """Write, ask."""
    with np.load(folder / "network.npz") as found:
        values = dict(found)
    litert.write(network(values), folder, values["images"], folder / "litert")
    interpreter = Interpreter(str(folder / "litert" / "model.tflite"))
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(image["index"], values["images"].shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(image["index"], values["images"])
    interpreter.invoke()
    np.save(folder / "answers.npy", interpreter.get_tensor(answer["index"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
