"""What the models' export.py share: the command line, and the writers that need only network and contract.

    python -m models.<name>.export FORM --weights FILE --out PATH

    onnx                  float32, any batch                                       .venvs/models
    onnx_int8             the same, quantized for ONNX Runtime                     .venvs/models
    onnx_int8_tensorrt    the same, quantized symmetrically for TensorRT           .venvs/models
    torchscript           float32, for TorchServe                                  .venvs/models
    savedmodel            float32, for TF Serving: a folder                        .venvs/tensorflow
    litert_int8           a folder with model.tflite, for TF Serving               .venvs/tensorflow

Names, datatypes and shapes come from model.yaml, so that every form has those of the contract. Each framework
is imported only where it is used: no environment has all of them.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from numpy.typing import NDArray

from models import samples

if TYPE_CHECKING:
    import tensorflow as tf
    from onnx import ModelProto
    from torch import Tensor, nn

Form = Callable[[Path, Path], None]
"""Writes one form: the checkpoint, and the path to write to, which does not exist yet."""
DATATYPES = {
    "BOOL": "bool", "UINT8": "uint8", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
"""OIP's datatypes in numpy's, torch's and TensorFlow's words."""
IR_VERSION, OPSET = 8, 17
"""Old enough for every ONNX Runtime and TensorRT in use."""
TRACED = 3
"""The size of open axes while a network is traced: not 1, which would be taken for a fixed one."""


def main(forms: Mapping[str, Form], argv: Sequence[str] | None = None) -> None:
    """Write one form of one checkpoint: what a model's export.py calls when it is run."""
    parser = argparse.ArgumentParser(description="Write a checkpoint in the form that an engine loads.")
    parser.add_argument("form", choices=list(forms))
    parser.add_argument("--weights", type=Path, required=True, help="the checkpoint, .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="the file or folder to write")
    options = parser.parse_args(argv)
    forms[options.form](options.weights, options.out)
    if options.form == "litert_int8":
        from services.tfserving.tensor_names import name_tensors

        name_tensors(options.out / "model.tflite")


def contract(model: Path) -> dict[str, Any]:
    """The contents of a model's contract, as they are; the gateway's own reader checks them."""
    content: dict[str, Any] = yaml.safe_load((model / "model.yaml").read_text(encoding="utf-8"))
    return content


def load(weights: Path) -> "dict[str, Tensor]":
    """A checkpoint's weights; what is float16 in the file is float32 here, as every float form computes."""
    import torch
    from safetensors.torch import load_file

    found = load_file(weights)
    return {name: value.float() if value.dtype is torch.float16 else value for name, value in found.items()}


def torchscript(network: "nn.Module", model: Path, out: Path) -> None:
    """Write `network` as TorchScript, its weights frozen into it.

    Args:
        network: in evaluation mode; `forward` takes and gives the contract's tensors, in order.
        model: the model's folder.
        out: the file.
    """
    import torch

    with torch.inference_mode():
        traced = torch.jit.trace(network, _example(contract(model)))
    torch.jit.freeze(traced).save(out)


def onnx(network: "nn.Module", model: Path, out: Path) -> None:
    """Write `network` as ONNX.

    Args:
        network: in evaluation mode; `forward` takes and gives the contract's tensors, in order.
        model: the model's folder.
        out: the file.
    """
    import onnx as onnx_format
    import torch

    spec = contract(model)
    names = [[tensor["name"] for tensor in spec[kind]] for kind in ("inputs", "outputs")]
    axes = {tensor["name"]: _axes(tensor) for kind in ("inputs", "outputs") for tensor in spec[kind]}
    with torch.inference_mode():
        torch.onnx.export(
            network, _example(spec), out, dynamo=False, opset_version=OPSET,
            input_names=names[0], output_names=names[1], dynamic_axes=axes,
        )  # fmt: skip
    written = _padded_by_convolutions(onnx_format.load(out))
    written.ir_version = IR_VERSION
    onnx_format.checker.check_model(written, full_check=True)
    onnx_format.save(written, out)


def onnx_int8(
    network: "nn.Module",
    model: Path,
    out: Path,
    to_inputs: Callable[[bytes], Mapping[str, NDArray[Any]]],
    *,
    tensorrt: bool = False,
    exclude: Sequence[str] = (),
    operators: Sequence[str] | None = None,
    float_outputs: Sequence[str] = (),
) -> None:
    """Write `network` as ONNX with static int8 quantization, calibrated on the model's calibration.zip.

    Args:
        network: as for `onnx`.
        model: the model's folder.
        out: the file.
        to_inputs: the model's transform.
        tensorrt: symmetric, as TensorRT wants it.
        exclude: names of ONNX nodes that stay float32.
        operators: the only ONNX operators that become int8 (all that can).
        float_outputs: ONNX operators whose results stay float32.
    """
    from models.compression import quantize

    payloads = samples.read(model / "calibration.zip").payloads
    with tempfile.TemporaryDirectory() as scratch:
        float32 = Path(scratch) / "fp32.onnx"
        onnx(network, model, float32)
        quantize.static(
            float32,
            out,
            map(to_inputs, payloads),
            tensorrt=tensorrt,
            exclude=exclude,
            operators=operators,
            float_outputs=float_outputs,
        )


def savedmodel(serve: "Callable[..., dict[str, tf.Tensor]]", model: Path, out: Path) -> None:
    """Write a SavedModel folder with the signature `serving_default`.

    Args:
        serve: takes the contract's inputs, batch axis in front, by position; gives its outputs by name.
        model: the model's folder.
        out: the folder.
    """
    import tensorflow as tf

    signature = [
        tf.TensorSpec(
            [None, *(None if size == -1 else size for size in tensor["shape"])],
            getattr(tf, DATATYPES[tensor["datatype"]]),
            name=tensor["name"],
        )
        for tensor in contract(model)["inputs"]
    ]
    module = tf.Module()
    module.serve = tf.function(serve, input_signature=signature)
    tf.saved_model.save(module, str(out), signatures={"serving_default": module.serve})


def _padded_by_convolutions(model: "ModelProto") -> "ModelProto":
    """The same, with zeros added by the convolutions: a Pad node between int8 layers would run in float."""
    from onnx import shape_inference
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule

    inferred = shape_inference.infer_shapes(model)
    optimizer.fold_constants(inferred, should_fold=lambda node: bool(node.inputs))
    rewritten: ModelProto = rewriter.rewrite(inferred, [fuse_pad_into_conv_rule])
    return rewritten


def _example(spec: Mapping[str, Any]) -> "tuple[Tensor, ...]":
    """Inputs for a network to be traced with, every open axis of size TRACED."""
    import torch

    return tuple(
        torch.ones(
            [TRACED if size == -1 else size for size in (-1, *tensor["shape"])],
            dtype=getattr(torch, DATATYPES[tensor["datatype"]]),
        )
        for tensor in spec["inputs"]
    )


def _axes(tensor: Mapping[str, Any]) -> dict[int, str]:
    """The open axes of a tensor by number, the batch axis in front."""
    return {0: "N"} | {i: f"{tensor['name']}_{i}" for i, size in enumerate(tensor["shape"], 1) if size == -1}
