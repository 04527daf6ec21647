"""The builder of plans, driven against TensorRT-RTX: that a network parses and builds, and no more."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.tensorrt import plan

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venvs" / "tensorrt" / "bin" / "python"
DIGITS = ROOT / "models" / "cnn_mnist" / "versions" / "1" / "fp32.onnx"

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


def save(path: Path, nodes: list[onnx.NodeProto], datatype: int, **weights: np.ndarray) -> Path:
    """A network from `x` [N, 4] to `y` [N, 3]."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", datatype, ["N", 4])],
        [helper.make_tensor_value_info("y", datatype, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def float_network(path: Path, datatype: int, numpy_type: str) -> Path:
    return save(
        path, [helper.make_node("MatMul", ["x", "w"], ["y"])], datatype, w=np.ones((4, 3), numpy_type)
    )


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
    return save(path, nodes, TensorProto.FLOAT, **arrays)


class TestWithTensorRT:
    pytestmark = with_tensorrt

    def test_the_digits_network_parses_and_builds(self, tmp_path: Path) -> None:
        done = build(DIGITS, tmp_path / "model.plan")
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "model.plan").stat().st_size > DIGITS.stat().st_size

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
        assert done.stderr == "tensor 'x': expected a free batch axis and no other, got shape [2, 3]\n"
        assert build(tmp_path / "network.onnx", tmp_path / "p", "--max-batch-size", "0").returncode == 0


def test_without_tensorrt_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--onnx", str(DIGITS), "--out", str(tmp_path / "model.plan")]
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
    with pytest.raises(plan.PlanError, match="is there a GPU"):
        plan.build(DIGITS, tmp_path / "model.plan", max_batch_size=1)
