"""The builder of plans, driven against TensorRT-RTX: that a network parses and builds, and no more."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.compression import quantize
from services.tensorrt import plan

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venvs" / "tensorrt" / "bin" / "python"

with_tensorrt = [
    pytest.mark.engine,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs .venvs/tensorrt"),
]


def build(network: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        PYTHON,
        "-m",
        "services.tensorrt.plan",
        "--onnx",
        network,
        "--out",
        out,
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


Values = Mapping[str, tuple[int, list[int | str]]]
"""Datatype and shape, without the batch axis, by name."""


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: Values,
    outputs: Values,
    weights: Mapping[str, np.ndarray],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, kind, ["N", *shape]) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, ["N", *shape]) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def float_network(path: Path, datatype: int, numpy_type: str) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = {"w": np.ones((4, 3), numpy_type)}
    return save(path, nodes, {"x": (datatype, [4])}, {"y": (datatype, [3])}, weights)


def int8_network(path: Path) -> Path:
    """Symmetric QuantizeLinear/DequantizeLinear pairs around both operands."""
    scale = {f"{name}_scale": np.float32(0.1) for name in ("x", "w")}
    zero = {f"{name}_zero": np.int8(0) for name in ("x", "w")}
    nodes = [helper.make_node("MatMul", ["x_dequantized", "w_dequantized"], ["y"])]
    for name in ("x", "w"):
        constants = [f"{name}_scale", f"{name}_zero"]
        nodes[:0] = [
            helper.make_node("QuantizeLinear", [name, *constants], [f"{name}_quantized"]),
            helper.make_node("DequantizeLinear", [f"{name}_quantized", *constants], [f"{name}_dequantized"]),
        ]
    weights = {"w": np.ones((4, 3), np.float32), **scale, **zero}
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    return save(path, nodes, {"x": (TensorProto.FLOAT, [4])}, {"y": (TensorProto.FLOAT, [3])}, arrays)


def convolutional_network(path: Path) -> Path:
    """From `x` [N, 8, 8, 1] to `y` [N, 10]."""
    rng = np.random.default_rng(1)
    weights = {"conv": rng.normal(size=(16, 1, 3, 3)), "dense": rng.normal(size=(144, 10))}
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "conv"], ["filtered"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["filtered"], ["positive"]),
        helper.make_node("MaxPool", ["positive"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense"], ["logits"], name="dense"),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    arrays = {name: value.astype(np.float32) for name, value in weights.items()}
    return save(path, nodes, {"x": (TensorProto.FLOAT, [8, 8, 1])}, {"y": (TensorProto.FLOAT, [10])}, arrays)


def attention_network(path: Path) -> Path:
    """From `tokens` INT64 [N, L] to `y` [N, 2]: what is 0 is padding, and is not looked at."""
    rng = np.random.default_rng(2)
    weights: dict[str, np.ndarray] = {
        "embedding": rng.normal(size=(50, 8)).astype(np.float32),
        "dense": rng.normal(size=(8, 2)).astype(np.float32),
        "hidden": np.array(-1e4, np.float32),
        "zero": np.array(0, np.int64),
        "middle": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["states"]),
        helper.make_node("Transpose", ["states"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["states", "turned"], ["scores"]),
        helper.make_node("Equal", ["tokens", "zero"], ["is_padding"]),
        helper.make_node("Unsqueeze", ["is_padding", "middle"], ["mask"]),
        helper.make_node("Where", ["mask", "hidden", "scores"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "states"], ["mixed"]),
        helper.make_node("ReduceMean", ["mixed"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "dense"], ["y"]),
    ]
    return save(path, nodes, {"tokens": (TensorProto.INT64, ["L"])}, {"y": (TensorProto.FLOAT, [2])}, weights)


class TestWithTensorRT:
    pytestmark = with_tensorrt

    @pytest.mark.parametrize("quantized", [False, True])
    def test_a_convolutional_network_builds_in_float_and_as_our_int8_for_tensorrt(
        self, quantized: bool, tmp_path: Path
    ) -> None:
        network = convolutional_network(tmp_path / "network.onnx")
        if quantized:
            rng = np.random.default_rng(0)
            images = [{"x": rng.random((8, 8, 1), np.float32)} for _ in range(4)]
            network = tmp_path / "int8.onnx"
            quantize.static(tmp_path / "network.onnx", network, images, tensorrt=True)
            assert {"QuantizeLinear", "Conv"} <= {node.op_type for node in onnx.load(network).graph.node}
        done = build(network, tmp_path / "model.plan")
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "model.plan").stat().st_size > 0

    def test_an_attention_over_a_padded_axis_builds(self, tmp_path: Path) -> None:
        network = attention_network(tmp_path / "network.onnx")
        done = build(network, tmp_path / "model.plan", "--padded", "tokens:0:256")
        assert (done.returncode, done.stderr) == (0, "")
        refused = build(network, tmp_path / "refused.plan")
        assert refused.returncode == 1
        assert refused.stderr == (
            "tensor 'tokens': expected free axes [0] and no other, got shape [-1, -1]\n"
        )

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
    def test_every_precision_comes_from_the_networks_own_types(self, precision: str, tmp_path: Path) -> None:
        path = tmp_path / "network.onnx"
        match precision:
            case "fp32":
                float_network(path, TensorProto.FLOAT, "f4")
            case "fp16":
                float_network(path, TensorProto.FLOAT16, "f2")
            case _:
                int8_network(path)
        done = build(path, tmp_path / "model.plan", "--max-batch-size", "8")
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "model.plan").stat().st_size > 0

    def test_what_is_no_network_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "network.onnx").write_text("no network")
        done = build(tmp_path / "network.onnx", tmp_path / "model.plan")
        assert done.returncode == 1
        assert "network.onnx: TensorRT cannot parse it: " in done.stderr.splitlines()[-1]
        assert not (tmp_path / "model.plan").exists()

    def test_an_axis_that_is_fixed_cannot_be_the_batch(self, tmp_path: Path) -> None:
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / "network.onnx")
        done = build(tmp_path / "network.onnx", tmp_path / "model.plan")
        assert done.stderr == "tensor 'x': expected free axes [0] and no other, got shape [2, 3]\n"
        assert build(tmp_path / "network.onnx", tmp_path / "p", "--max-batch-size", "0").returncode == 0


def test_without_tensorrt_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = convolutional_network(tmp_path / "network.onnx")
    arguments = ["--onnx", str(network), "--out", str(tmp_path / "model.plan")]
    assert plan.main(arguments) == 1
    assert capsys.readouterr().err.startswith("no TensorRT in this Python: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.onnx"
    assert plan.main(["--onnx", str(missing), "--out", str(tmp_path / "model.plan")]) == 1
    assert capsys.readouterr().err == f"{missing} does not exist\n"


def test_a_library_that_cannot_start_asks_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Logger:
        WARNING = 1

        def __init__(self, level: int) -> None:
            assert level == self.WARNING

    def no_builder(logger: Logger) -> None:
        raise TypeError(f"factory function returned nullptr for {logger}")

    module = ModuleType("tensorrt")
    module.__dict__.update({"Logger": Logger, "Builder": no_builder})
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    network = convolutional_network(tmp_path / "network.onnx")
    with pytest.raises(plan.PlanError, match="is there a GPU"):
        plan.build(network, tmp_path / "model.plan", max_batch_size=1)
