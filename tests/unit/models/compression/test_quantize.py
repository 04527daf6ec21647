"""Static quantization, on a network with a convolution, a norm and a dense layer."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.compression import quantize

RNG = np.random.default_rng(1)
IMAGES = RNG.random((64, 1, 8, 8), np.float32)
SAMPLES = [{"image": image} for image in IMAGES]
LAST = "dense"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`image` [N, 1, 8, 8] > convolution, norm, ReLU > dense: `scores` [N, 5]."""
    weights = {
        "kernel": RNG.normal(size=(16, 1, 3, 3)),
        "norm_scale": RNG.uniform(0.5, 2, 16),
        "norm_bias": RNG.normal(size=16),
        "norm_mean": RNG.normal(size=16),
        "norm_variance": RNG.uniform(0.5, 2, 16),
        "dense_weight": RNG.normal(size=(576, 5)) / 24,
        "dense_bias": RNG.normal(size=5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["convolved"], name="conv", kernel_shape=[3, 3]),
        helper.make_node(
            "BatchNormalization", ["convolved", *[name for name in weights if "norm" in name]], ["normal"]
        ),
        helper.make_node("Relu", ["normal"], ["hidden"]),
        helper.make_node("Flatten", ["hidden"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense_weight", "dense_bias"], ["scores"], name=LAST),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("network") / "fp32.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def int8(network: Path) -> Path:
    out = network.with_name("int8.onnx")
    quantize.static(network, out, SAMPLES)
    return out


@pytest.fixture(scope="module")
def for_tensorrt(network: Path) -> Path:
    out = network.with_name("int8_tensorrt.onnx")
    quantize.static(network, out, SAMPLES, tensorrt=True)
    return out


def scores(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the graph says: unfused, since this CPU's int8 kernels may overflow."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["scores"], {"image": images})[0])


def constants(path: Path) -> dict[str, NDArray[np.generic]]:
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def zero_points(path: Path) -> list[NDArray[np.generic]]:
    values = constants(path)
    nodes = onnx.load(path).graph.node
    return [values[node.input[2]] for node in nodes if node.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("form", ["int8", "for_tensorrt"])
def test_answers_stay_close_to_the_float_network_s(
    network: Path, form: str, request: pytest.FixtureRequest
) -> None:
    expected = scores(network, IMAGES)
    error = np.abs(scores(request.getfixturevalue(form), IMAGES) - expected)
    assert error.max() <= 0.02 * np.ptp(expected)
    assert error.max() > 0, "nothing was quantized"


@pytest.mark.parametrize("form", ["int8", "for_tensorrt"])
def test_every_weight_is_int8_with_a_scale_for_each_channel(
    form: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(form)
    values = constants(path)
    used = [node.input for node in onnx.load(path).graph.node if node.op_type == "DequantizeLinear"]
    scales = {values[name].shape: values[scale].shape for name, scale, _ in used if name in values}
    assert scales[16, 1, 3, 3] == (16,)
    assert scales[576, 5] == (5,)
    assert not [name for name, value in values.items() if value.dtype == np.float32 and value.ndim > 1]


def test_weights_for_cpus_have_seven_bits_so_that_no_kernel_overflows(int8: Path) -> None:
    weights = [value for value in constants(int8).values() if value.dtype == np.int8 and value.ndim > 1]
    assert max(np.abs(value.astype(int)).max() for value in weights) == 64


def test_this_cpu_s_int8_kernels_answer_as_the_graph_says(int8: Path) -> None:
    session = onnxruntime.InferenceSession(int8, providers=["CPUExecutionProvider"])
    fused = np.asarray(session.run(["scores"], {"image": IMAGES})[0])
    step = float(constants(int8)["scores_scale"])
    assert np.abs(fused - scores(int8, IMAGES)).max() <= 1.01 * step


def test_a_row_s_answer_does_not_depend_on_its_neighbours(int8: Path) -> None:
    alone = scores(int8, IMAGES[:1])
    beside_extremes = np.concatenate([IMAGES[:1], np.full((3, 1, 8, 8), 1e4, np.float32)])
    assert np.array_equal(scores(int8, beside_extremes)[:1], alone)


def test_for_tensorrt_activations_are_symmetric_and_biases_float(for_tensorrt: Path, int8: Path) -> None:
    assert all(not point.any() for point in zero_points(for_tensorrt))
    assert any(point.any() for point in zero_points(int8))
    kinds = {value.dtype.name for value in constants(for_tensorrt).values()}
    assert "int32" not in kinds
    assert "int32" in {value.dtype.name for value in constants(int8).values()}


def test_an_excluded_layer_stays_in_float(network: Path, tmp_path: Path) -> None:
    quantize.static(network, tmp_path / "out.onnx", SAMPLES, exclude=[LAST])
    datatypes = {value.shape: value.dtype for value in constants(tmp_path / "out.onnx").values()}
    assert datatypes[576, 5] == np.float32
    assert datatypes[16, 1, 3, 3] == np.int8


def test_no_samples_are_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No data"):
        quantize.static(network, tmp_path / "out.onnx", [])
