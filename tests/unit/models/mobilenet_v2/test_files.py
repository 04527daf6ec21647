"""The committed files of mobilenet_v2 fit one another: contract, checkpoints, samples, example."""

import hashlib
import json
from pathlib import Path

import pytest

from gateway.configuration import load
from gateway.contract import Contract
from models import samples
from models.mobilenet_v2 import transform
from models.mobilenet_v2.sizes import STRIDES

MODEL = Path(transform.__file__).parent
DIVISOR = 8


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load(Contract, MODEL / "model.yaml")


def shapes(path: Path) -> dict[str, list[int]]:
    """Of a safetensors file's tensors: its JSON header says them."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def test_checkpoints_are_those_that_the_contract_names(contract: Contract) -> None:
    for version in contract.versions.values():
        for spec in version.variants.values():
            assert hashlib.sha256((MODEL / spec.checkpoint).read_bytes()).hexdigest() == spec.sha256


def test_labels_of_the_transform_are_those_of_the_contract(contract: Contract) -> None:
    assert contract.outputs[0].labels == transform.LABELS


def test_the_pruned_checkpoint_has_half_the_expansions_in_whole_eights(contract: Contract) -> None:
    variants = contract.versions["1"].variants
    full, pruned = (shapes(MODEL / variants[name].checkpoint) for name in ("fp32", "pruned"))
    assert full.keys() == pruned.keys()
    for index in range(len(STRIDES)):
        name = f"blocks.{index}.depthwise.conv.weight"
        assert pruned[name][0] % DIVISOR == 0
        assert pruned[name][0] <= full[name][0] / 2
    assert full["dense.weight"] == [10, 1280]


def test_samples_have_every_label_and_none_is_for_both_calibration_and_measuring() -> None:
    examples, calibration = (samples.read(MODEL / f"{name}.zip") for name in ("examples", "calibration"))
    assert len(examples) == 500
    assert set(examples.labels.tolist()) == set(calibration.labels.tolist()) == set(range(10))
    assert not set(examples.payloads) & set(calibration.payloads)


def test_the_example_is_taken_as_it_is(contract: Contract) -> None:
    article = transform.article((MODEL / contract.example).read_bytes())
    assert article.shape == (28, 28)
    assert article.max() > 250
