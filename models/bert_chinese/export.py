"""Write the network in the form that an engine loads; `models/exporting.py` lists the forms.

    python -m models.bert_chinese.export FORM --weights FILE --out PATH

Only matrix products with weights, and the embedding, become int8: attention's own products, softmax and
norms stay in float. Their ranges are fixed (static): a range that is measured on each batch, as in dynamic
quantization, makes a text's answer depend on its neighbours.
"""

from pathlib import Path

import numpy as np

from models import exporting

MODEL = Path(__file__).parent
INT8_OPERATORS = ("MatMul", "Gemm", "Gather")


def torchscript(weights: Path, out: Path) -> None:
    """TorchScript, for TorchServe."""
    from models.bert_chinese.network import of

    exporting.torchscript(of(exporting.load(weights)), MODEL, out)


def onnx(weights: Path, out: Path) -> None:
    """Float ONNX."""
    from models.bert_chinese.network import of

    exporting.onnx(of(exporting.load(weights)), MODEL, out)


def onnx_int8(weights: Path, out: Path) -> None:
    """Int8 ONNX for CPUs."""
    _onnx_int8(weights, out, tensorrt=False)


def onnx_int8_tensorrt(weights: Path, out: Path) -> None:
    """Int8 ONNX for TensorRT."""
    _onnx_int8(weights, out, tensorrt=True)


def _onnx_int8(weights: Path, out: Path, *, tensorrt: bool) -> None:
    import torch

    from models import samples
    from models.bert_chinese.network import of
    from models.bert_chinese.transform import to_inputs
    from models.compression import transformer

    network = of(exporting.load(weights))

    def run() -> None:
        for payload in samples.read(MODEL / "calibration.zip").payloads:
            network(torch.from_numpy(to_inputs(payload)["tokens"])[None])

    apart = transformer.split_outliers(list(network.layers), run)
    # TensorRT has no int8 look-up in a table
    operators = [name for name in INT8_OPERATORS if not tensorrt or name != "Gather"]
    exporting.onnx_int8(
        network, MODEL, out, to_inputs, tensorrt=tensorrt, operators=operators,
        exclude=[f"/{name}/MatMul" for name in apart],
    )  # fmt: skip


def savedmodel(weights: Path, out: Path) -> None:
    """SavedModel, for TF Serving: the network once more, in TensorFlow's words."""
    import tensorflow as tf
    from safetensors.numpy import load_file

    from models.bert_chinese.sizes import EPSILON, FAR, PAD, head_width

    values = {name: tf.constant(value.astype(np.float32)) for name, value in load_file(weights).items()}
    layers = len({name.split(".")[1] for name in values if name.startswith("layers.")})

    width = head_width(values["norm.bias"].shape[0])

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.einsum("...i,oi->...o", x, values[f"{name}.weight"]) + values[f"{name}.bias"]

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        scale = values[f"{name}.weight"] * tf.math.rsqrt(variance + EPSILON)
        return (x - mean) * scale + values[f"{name}.bias"]

    def split(x: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(x)
        return tf.transpose(tf.reshape(x, [shape[0], shape[1], -1, width]), [0, 2, 1, 3])

    def layer(x: tf.Tensor, mask: tf.Tensor, name: str) -> tf.Tensor:
        query, key, value = (split(dense(x, f"{name}.{part}")) for part in ("query", "key", "value"))
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * width**-0.5 + mask)
        shape = tf.shape(x)
        mixed = tf.reshape(tf.transpose(weights @ value, [0, 2, 1, 3]), [shape[0], shape[1], -1])
        x = norm(x + dense(mixed, f"{name}.join"), f"{name}.join_norm")
        inner = dense(tf.nn.gelu(dense(x, f"{name}.up")), f"{name}.down")
        return norm(x + inner, f"{name}.down_norm")

    def serve(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        kept = tf.cast(tokens != PAD, tf.float32)
        x = tf.gather(values["word.weight"], tokens) + values["position.weight"][: tf.shape(tokens)[1]]
        x = norm(x, "norm")
        for i in range(layers):
            x = layer(x, (1 - kept[:, None, None, :]) * FAR, f"layers.{i}")
        pooled = tf.reduce_sum(x * kept[:, :, None], 1) / tf.maximum(tf.reduce_sum(kept, 1), 1.0)[:, None]
        return {"probabilities": tf.nn.softmax(dense(pooled, "classify"))}

    exporting.savedmodel(serve, MODEL, out)


FORMS = {
    "onnx": onnx,
    "onnx_int8": onnx_int8,
    "onnx_int8_tensorrt": onnx_int8_tensorrt,
    "torchscript": torchscript,
    "savedmodel": savedmodel,
}

if __name__ == "__main__":
    exporting.main(FORMS)
