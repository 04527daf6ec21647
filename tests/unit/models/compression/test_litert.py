"""The LiteRT form of a small network against the ONNX form of the same."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.compression import quantize

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = Path(__file__).with_name("litert_network.py")
CONTRACT = """
inputs: [{name: image, datatype: FP32, shape: [8, 8, 1]}]
outputs: [{name: probabilities, datatype: FP32, shape: [5]}]
"""
RNG = np.random.default_rng(1)
WEIGHTS = {
    "kernel": RNG.normal(size=(16, 1, 3, 3)).astype(np.float32),
    "kernel_bias": RNG.normal(size=16).astype(np.float32),
    "dense": (RNG.normal(size=(5, 576)) / 24).astype(np.float32),
    "dense_bias": RNG.normal(size=5).astype(np.float32),
}
IMAGES = RNG.random((200, 8, 8, 1), np.float32)

Answers = NDArray[np.float32]


def write_onnx(path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["planes"]),
        helper.make_node("Conv", ["planes", "kernel", "kernel_bias"], ["convolved"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["convolved"], ["hidden"]),
        helper.make_node("Flatten", ["hidden"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense", "dense_bias"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["probabilities"], name="softmax"),
    ]
    constants = {**WEIGHTS, "shape": np.array([-1, 1, 8, 8])}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, Answers]:
    """What LiteRT and ONNX Runtime say of the images, both int8."""
    folder = tmp_path_factory.mktemp("network")
    (folder / "model.yaml").write_text(CONTRACT)
    np.savez(folder / "network.npz", images=IMAGES, **WEIGHTS)  # type: ignore[arg-type]
    write_onnx(folder / "fp32.onnx")
    items = [{"image": image} for image in IMAGES]
    quantize.static(folder / "fp32.onnx", folder / "int8.onnx", items, exclude=["softmax"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [ROOT / ".venvs" / "tensorflow" / "bin" / "python", SCRIPT, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(folder / "int8.onnx", providers=["CPUExecutionProvider"])
    return np.load(folder / "answers.npy"), np.asarray(session.run(None, {"image": IMAGES})[0])


def test_both_runtimes_take_the_same_class_for_the_most_probable(answers: tuple[Answers, Answers]) -> None:
    litert, onnx_runtime = answers
    assert np.array_equal(litert.argmax(1), onnx_runtime.argmax(1))
    assert len(set(litert.argmax(1).tolist())) > 1


def test_nearly_all_probabilities_are_equal_but_for_the_rounding_of_single_steps(
    answers: tuple[Answers, Answers],
) -> None:
    litert, onnx_runtime = answers
    assert (np.abs(litert - onnx_runtime).max(1) <= 1e-6).mean() >= 0.9


def test_softmax_stays_in_float(answers: tuple[Answers, Answers]) -> None:
    litert, _ = answers
    assert np.abs(litert.sum(1) - 1).max() <= 1e-6
    assert np.abs(litert * 256 - np.round(litert * 256)).max() > 0.1, "a 256th is what int8 would give"
