"""The committed files of cnn_mnist fit one another: contract, weights, ONNX, example, transform."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from gateway.configuration import load
from gateway.contract import Contract
from models.cnn_mnist import transform

MODEL = Path(transform.__file__).parent


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load(Contract, MODEL / "model.yaml")


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(MODEL / "versions/1/fp32.onnx", options)


@pytest.fixture(scope="module")
def heldout() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with np.load(MODEL / "heldout_1000.npz") as data:
        return data["images"], data["labels"]


def infer(session: onnxruntime.InferenceSession, image: NDArray[np.float32]) -> NDArray[np.float32]:
    (probabilities,) = session.run(["probabilities"], {"image": image})
    return np.asarray(probabilities)


def test_weights_are_those_that_the_contract_names(contract: Contract) -> None:
    for spec in contract.versions.values():
        assert hashlib.sha256((MODEL / spec.weights).read_bytes()).hexdigest() == spec.sha256


def test_onnx_was_exported_from_the_weights_that_the_contract_names(contract: Contract) -> None:
    for spec in contract.versions.values():
        for path in spec.onnx.values():
            metadata = {entry.key: entry.value for entry in onnx.load(MODEL / path).metadata_props}
            assert metadata["weights_sha256"] == spec.sha256


def test_onnx_has_the_names_shapes_and_datatypes_of_the_contract(
    contract: Contract, session: onnxruntime.InferenceSession
) -> None:
    for specs, tensors in (
        (contract.inputs, session.get_inputs()),
        (contract.outputs, session.get_outputs()),
    ):
        assert [(spec.name, [*spec.shape]) for spec in specs] == [(t.name, t.shape[1:]) for t in tensors]
        assert {tensor.type for tensor in tensors} == {"tensor(float)"}
        assert {spec.datatype for spec in specs} == {"FP32"}
        assert all(isinstance(tensor.shape[0], str) for tensor in tensors), "the batch axis must be open"


def test_accuracy_on_held_out_images_is_above_the_contract_s_floor(
    contract: Contract,
    session: onnxruntime.InferenceSession,
    heldout: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    images, labels = heldout
    assert images.shape == (1000, 28, 28)
    answers = infer(session, transform.scaled(images)).argmax(1)
    assert (answers == labels).mean() >= contract.floors["accuracy"] >= 0.98


@pytest.mark.parametrize("size", [1, 2, 64])
def test_a_row_s_answer_is_the_same_alone_and_in_a_batch(
    session: onnxruntime.InferenceSession,
    heldout: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    size: int,
) -> None:
    batch = transform.scaled(heldout[0][:size])
    together = infer(session, batch)
    alone = np.concatenate([infer(session, batch[row : row + 1]) for row in range(size)])
    assert together.shape == (size, 10)
    assert np.abs(together - alone).max() <= 1e-6
    assert np.abs(together.sum(1) - 1).max() <= 1e-5


def test_example_is_a_seven(contract: Contract, session: onnxruntime.InferenceSession) -> None:
    inputs = transform.to_inputs((MODEL / contract.example).read_bytes())
    answer = transform.to_answer({"probabilities": infer(session, inputs["image"][np.newaxis])[0]})
    assert next(iter(answer)) == "7"
    assert answer["7"] > 0.99


def test_labels_of_the_transform_are_those_of_the_contract(contract: Contract) -> None:
    assert contract.outputs[0].labels == transform.LABELS
