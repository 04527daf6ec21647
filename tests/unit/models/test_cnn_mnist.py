"""The files of cnn_mnist fit one another: contract, checkpoints, samples, transform, and what is built."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from gateway.backends import engine_model_name
from gateway.configuration import load
from gateway.contract import Contract
from models import samples
from models.cnn_mnist import transform
from tests.serving import BUILT

MODEL = Path(transform.__file__).parent
CONTRACT = load(Contract, MODEL / "model.yaml")
VARIANTS = CONTRACT.versions["1"].variants


def path_of(variant: str) -> Path:
    return BUILT / "onnx" / engine_model_name(CONTRACT.name, variant) / "1" / "model.onnx"


@pytest.fixture(scope="module", params=list(VARIANTS))
def session(request: pytest.FixtureRequest) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path_of(request.param), options)


@pytest.fixture(scope="module")
def examples() -> samples.Samples:
    return samples.read(MODEL / "examples.zip")


@pytest.fixture(scope="module")
def images(examples: samples.Samples) -> NDArray[np.float32]:
    return np.stack([transform.to_inputs(payload)["image"] for payload in examples.payloads])


def infer(session: onnxruntime.InferenceSession, image: NDArray[np.float32]) -> NDArray[np.float32]:
    (probabilities,) = session.run(["probabilities"], {"image": image})
    return np.asarray(probabilities)


def test_checkpoints_are_those_that_the_contract_names() -> None:
    for spec in VARIANTS.values():
        assert hashlib.sha256((MODEL / spec.checkpoint).read_bytes()).hexdigest() == spec.sha256


def test_every_variant_has_the_names_shapes_and_datatypes_of_the_contract(
    session: onnxruntime.InferenceSession,
) -> None:
    for specs, tensors in (
        (CONTRACT.inputs, session.get_inputs()),
        (CONTRACT.outputs, session.get_outputs()),
    ):
        assert [(spec.name, [*spec.shape]) for spec in specs] == [(t.name, t.shape[1:]) for t in tensors]
        assert {tensor.type for tensor in tensors} == {"tensor(float)"}
        assert {spec.datatype for spec in specs} == {"FP32"}
        assert all(isinstance(tensor.shape[0], str) for tensor in tensors), "the batch axis must be open"


def test_every_variant_knows_the_examples_as_well_as_the_floor_asks(
    session: onnxruntime.InferenceSession, examples: samples.Samples, images: NDArray[np.float32]
) -> None:
    assert (infer(session, images).argmax(1) == examples.labels).mean() >= CONTRACT.floors["accuracy"]


@pytest.mark.parametrize("size", [1, 2, 64])
def test_a_row_s_answer_is_the_same_alone_and_in_a_batch(
    session: onnxruntime.InferenceSession, images: NDArray[np.float32], size: int
) -> None:
    batch = images[:size]
    together = infer(session, batch)
    alone = np.concatenate([infer(session, batch[row : row + 1]) for row in range(size)])
    assert together.shape == (size, 10)
    assert np.abs(together - alone).max() <= 1e-6
    assert np.abs(together.sum(1) - 1).max() <= 1e-5


def test_the_pruned_int8_file_is_at_most_a_sixth_of_fp32_s() -> None:
    assert 6 * path_of("pruned_int8").stat().st_size <= path_of("fp32").stat().st_size


def test_samples_have_every_digit_and_none_is_for_both_calibration_and_measuring(
    examples: samples.Samples,
) -> None:
    calibration = samples.read(MODEL / "calibration.zip")
    assert len(examples) == 500
    assert set(examples.labels.tolist()) == set(calibration.labels.tolist()) == set(range(10))
    assert not set(examples.payloads) & set(calibration.payloads)


def test_example_is_a_seven(session: onnxruntime.InferenceSession) -> None:
    inputs = transform.to_inputs((MODEL / CONTRACT.example).read_bytes())
    answer = transform.to_answer({"probabilities": infer(session, inputs["image"][np.newaxis])[0]})
    assert next(iter(answer)) == "7"
    assert answer["7"] > 0.99


def test_labels_of_the_transform_are_those_of_the_contract() -> None:
    assert CONTRACT.outputs[0].labels == transform.LABELS
