"""Write the network in the form that an engine loads, from one checkpoint.

    python -m models.cnn_mnist.export torchscript --out FILE      in .venvs/torchserve
    python -m models.cnn_mnist.export savedmodel --out FOLDER     in .venvs/tensorflow
    python -m models.cnn_mnist.export onnx                        in .venvs/torchserve; its file is committed

Every form takes `image` float32 [N, 28, 28, 1] and answers `probabilities` float32 [N, 10], any N. The ONNX
graph and the SavedModel are written down layer by layer, so that each can be read beside network.py and its
exporter needs no other framework.
"""

import argparse
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WEIGHTS = Path(__file__).parent / "versions" / "1" / "weights.safetensors"
IR_VERSION, OPSET = 8, 17  # old enough for every ONNX Runtime and TensorRT in use


def torchscript(weights: Path, out: Path) -> None:
    """Write a TorchScript file."""
    import torch
    from safetensors.torch import load_file

    from models.cnn_mnist.network import Network

    network = Network().eval()
    network.load_state_dict(load_file(weights))
    torch.jit.script(network).save(out)


def savedmodel(weights: Path, out: Path) -> None:
    """Write a SavedModel folder with the signature `serving_default`."""
    import tensorflow as tf

    values = _load(weights)
    # kernels are [filter, channel, row, column] in the checkpoint; TensorFlow has the filter last
    kernels = [tf.constant(values[f"conv{n}.weight"].transpose(2, 3, 1, 0)) for n in (1, 2)]
    biases = [tf.constant(values[f"conv{n}.bias"]) for n in (1, 2)]
    # flattened channels last here and channels first there: put the dense layer's inputs in this order
    dense = values["dense.weight"].reshape(10, 32, 5, 5).transpose(2, 3, 1, 0).reshape(800, 10)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        hidden = image
        for kernel, bias in zip(kernels, biases, strict=True):
            hidden = tf.nn.relu(tf.nn.conv2d(hidden, kernel, 1, "VALID") + bias)
            hidden = tf.nn.max_pool2d(hidden, 2, 2, "VALID")
        logits = tf.reshape(hidden, [-1, 800]) @ tf.constant(dense) + tf.constant(values["dense.bias"])
        return {"probabilities": tf.nn.softmax(logits)}

    module = tf.Module()
    image = tf.TensorSpec([None, 28, 28, 1], tf.float32, name="image")
    module.serve = tf.function(serve, input_signature=[image])
    tf.saved_model.save(module, str(out), signatures={"serving_default": module.serve})


def onnx(weights: Path, out: Path) -> None:
    """Write an ONNX file; its metadata names the checkpoint by its hash."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    node = helper.make_node
    nodes = [node("Transpose", ["image"], ["pooled0"], perm=[0, 3, 1, 2])]
    for n in (1, 2):
        layer = f"conv{n}"
        inputs = [f"pooled{n - 1}", f"{layer}.weight", f"{layer}.bias"]
        nodes += [
            node("Conv", inputs, [layer], kernel_shape=[3, 3]),
            node("Relu", [layer], [f"relu{n}"]),
            node("MaxPool", [f"relu{n}"], [f"pooled{n}"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
    nodes += [
        node("Flatten", ["pooled2"], ["flat"]),
        node("Gemm", ["flat", "dense.weight", "dense.bias"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 28, 28, 1])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])
    values = [numpy_helper.from_array(value, name) for name, value in sorted(_load(weights).items())]
    graph = helper.make_graph(nodes, "cnn_mnist", [image], [answer], values)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="inferway")
    helper.set_model_props(model, {"weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()})
    checker.check_model(model, full_check=True)
    save(model, out)


EXPORTERS: Mapping[str, Callable[[Path, Path], None]] = {
    "torchscript": torchscript,
    "savedmodel": savedmodel,
    "onnx": onnx,
}


def _load(weights: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    values: dict[str, NDArray[np.float32]] = load_file(weights)
    return values


def main() -> None:
    """Export one variant of one version to one form."""
    parser = argparse.ArgumentParser(prog="python -m models.cnn_mnist.export")
    parser.add_argument("form", choices=list(EXPORTERS))
    parser.add_argument("--variant", choices=["fp32"], default="fp32", help="what to build (fp32)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the checkpoint (version 1's)")
    parser.add_argument("--out", type=Path, help="what to write (onnx: fp32.onnx beside the checkpoint)")
    arguments = parser.parse_args()
    out = arguments.out
    if out is None:
        if arguments.form != "onnx":
            parser.error(f"{arguments.form} needs --out")
        out = arguments.weights.with_name(f"{arguments.variant}.onnx")
    EXPORTERS[arguments.form](arguments.weights, out)


if __name__ == "__main__":
    main()
