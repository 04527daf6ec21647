"""Parity: the same answers from every form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import parity
from models.gate import Refused

REFERENCE = np.random.default_rng(1).dirichlet(np.ones(10), 500).astype(np.float32)


def shifted(by: float) -> NDArray[np.float32]:
    answers = REFERENCE.copy()
    answers[3, 4] += np.float32(by)
    return answers


def other_labels(count: int) -> NDArray[np.float32]:
    answers = REFERENCE.copy()
    answers[:count] = np.roll(answers[:count], 1, axis=1)
    return answers


def test_fp32_may_differ_by_a_ten_thousandth() -> None:
    found = parity.check(parity.compare(shifted(9e-5), REFERENCE), is_fp32=True, has_labels=True)
    assert found["largest_difference"] == pytest.approx(9e-5, rel=1e-2)
    with pytest.raises(Refused, match=r"not what ONNX answers to 500 examples: differs by up to 0\.00012"):
        parity.check(parity.compare(shifted(1.2e-4), REFERENCE), is_fp32=True, has_labels=True)


def test_another_variant_may_differ_by_a_thousandth_or_keep_every_label() -> None:
    parity.check(parity.compare(shifted(9e-4), REFERENCE), is_fp32=False, has_labels=True)
    far = REFERENCE * np.float32(0.5)
    parity.check(parity.compare(far, REFERENCE), is_fp32=False, has_labels=True)
    with pytest.raises(Refused, match=r"same label on 99\.80%"):
        parity.check(parity.compare(other_labels(1), REFERENCE), is_fp32=False, has_labels=True)


def test_a_regression_has_no_labels_to_agree_on() -> None:
    prices = np.array([[1000.0], [3.0]], np.float32)
    parity.check(parity.compare(prices * np.float32(1.00005), prices), is_fp32=True, has_labels=False)
    with pytest.raises(Refused):
        parity.check(parity.compare(prices * np.float32(1.01), prices), is_fp32=False, has_labels=False)


def test_a_form_that_once_answers_no_number_is_refused() -> None:
    with pytest.raises(Refused, match="no number"):
        parity.compare(shifted(np.nan), REFERENCE)


def test_answers_of_another_shape_are_refused() -> None:
    with pytest.raises(Refused, match="shape"):
        parity.compare(REFERENCE[:, :9], REFERENCE)


def test_answers_come_in_the_order_of_the_examples_whatever_the_batches(tmp_path: Path) -> None:
    file = tmp_path / "examples.npz"
    arrays: dict[str, Any] = {}
    for batch, rows in {"0000": [2, 0], "0001": [3, 1]}.items():
        arrays |= {f"{batch}/x": np.array(rows, np.float32)[:, None], f"{batch}/rows": np.array(rows)}
    np.savez(file, **arrays)
    answers = parity.ask(lambda inputs: 10 * inputs["x"], file)
    assert answers.tolist() == [[0], [10], [20], [30]]
