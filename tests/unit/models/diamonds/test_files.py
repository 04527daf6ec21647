"""The committed files of diamonds fit one another, and the weights explain the examples."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from gateway.configuration import load
from gateway.contract import Contract
from models import samples
from models.diamonds import transform

MODEL = Path(transform.__file__).parent
CHECKPOINT = MODEL / "versions" / "1" / "fp32.safetensors"


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load(Contract, MODEL / "model.yaml")


def tensor(name: str) -> list[float]:
    """Of a safetensors file of float16 tensors."""
    data = CHECKPOINT.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:start])[name]["data_offsets"]
    values: list[float] = np.frombuffer(data[start + begin : start + end], "<f2").tolist()
    return values


def test_the_checkpoint_is_the_one_that_the_contract_names(contract: Contract) -> None:
    spec = contract.versions["1"].variants["fp32"]
    assert MODEL / spec.checkpoint == CHECKPOINT
    assert hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest() == spec.sha256


def test_the_weights_explain_the_examples_as_well_as_the_contract_asks(contract: Contract) -> None:
    examples = samples.read(MODEL / "examples.zip")
    assert len(examples) == 500
    inputs = np.stack([transform.to_inputs(payload)["features"] for payload in examples.payloads])
    answers = inputs @ np.array(tensor("linear.weight")) + tensor("linear.bias")[0]
    error = ((answers - examples.labels) ** 2).sum() / ((examples.labels - examples.labels.mean()) ** 2).sum()
    assert 1 - error > contract.floors["r2"]


def test_a_heavier_or_better_graded_diamond_costs_more() -> None:
    assert min(tensor("linear.weight")) > 0


def test_the_example_costs_what_such_a_diamond_does(contract: Contract) -> None:
    features = transform.to_inputs((MODEL / contract.example).read_bytes())["features"]
    assert features.shape == contract.inputs[0].shape
    logarithm = features @ np.array(tensor("linear.weight")) + tensor("linear.bias")[0]
    assert 2000 < transform.to_answer({"log_price": np.array([logarithm])})["price"] < 3500


def test_the_curve_rises_with_epsilon_towards_the_plain_fit() -> None:
    curve = json.loads((CHECKPOINT.parent / "epsilon.json").read_text(encoding="utf-8"))
    medians = [float(np.median(point["r2"])) for point in curve["points"]]
    assert medians == sorted(medians)
    assert medians[-1] <= curve["plain_r2"] + 1e-3
    assert curve["published_epsilon"] in [point["epsilon"] for point in curve["points"]]
