"""The committed files of efficientnet_lite0 fit one another: contract, checkpoint, samples, example."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from gateway.configuration import load
from gateway.contract import Contract
from models import samples
from models.efficientnet_lite0 import data, transform

MODEL = Path(transform.__file__).parent


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load(Contract, MODEL / "model.yaml")


def test_checkpoints_are_those_that_the_contract_names(contract: Contract) -> None:
    for version in contract.versions.values():
        for spec in version.variants.values():
            assert hashlib.sha256((MODEL / spec.checkpoint).read_bytes()).hexdigest() == spec.sha256


def test_labels_of_the_transform_are_those_of_the_contract(contract: Contract) -> None:
    assert contract.outputs[0].labels == transform.LABELS


def test_the_example_fits_the_contract(contract: Contract) -> None:
    image = transform.to_inputs((MODEL / contract.example).read_bytes())["image"]
    assert image.shape == contract.inputs[0].shape
    assert image.dtype == np.float32


def test_no_photo_is_for_both_calibration_and_measuring() -> None:
    assert not set(data.TRAIN) & set(data.TEST)
    assert {path.stem for path in (MODEL / "photos").iterdir()} == {*data.TRAIN, *data.TEST}


def test_samples_are_as_many_as_said_and_say_that_nobody_labelled_them() -> None:
    examples, calibration = (samples.read(MODEL / f"{name}.zip") for name in ("examples", "calibration"))
    assert (len(examples), len(calibration)) == (data.EXAMPLES, data.CALIBRATION)
    assert set(examples.labels.tolist()) == {samples.UNKNOWN}
    assert not set(examples.payloads) & set(calibration.payloads)
