"""The gate: what may be published, and what a sample of 500 can say about it."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import build, gate
from models.artifacts import Artifact
from models.gate import Refused
from models.processes import BuildError

COUNT = 500
LABELS = np.arange(COUNT) % 10
FLOORS = {"accuracy": 0.95, "largest_loss": 0.01}


def answering(wrong: int, *, first: int = 0) -> NDArray[np.float32]:
    """Probabilities that are right but for `wrong` examples from `first` on."""
    answered = LABELS.copy()
    answered[first : first + wrong] = (answered[first : first + wrong] + 1) % 10
    return np.eye(10, dtype=np.float32)[answered]


def test_a_variant_as_good_as_fp32_passes_with_its_numbers() -> None:
    found = gate.judge_examples(FLOORS, answering(10), answering(10), LABELS)
    assert found["accuracy"]["value"] == 0.98
    assert found["accuracy"]["standard_error"] == pytest.approx((0.98 * 0.02 / COUNT) ** 0.5)
    assert found["accuracy"]["loss"] == found["accuracy"]["loss_standard_error"] == 0


def test_a_variant_two_standard_errors_below_its_floor_is_refused() -> None:
    gate.judge_examples(FLOORS, answering(36), answering(36), LABELS)  # 0.928 + 2 x 0.0116 = 0.951
    with pytest.raises(Refused, match=r"accuracy 0\.9240 on 500 examples, its floor is 0\.95: restore"):
        gate.judge_examples(FLOORS, answering(38), answering(38), LABELS)  # 0.924 + 2 x 0.0119 = 0.948


def test_loss_is_judged_by_the_examples_on_which_two_variants_differ() -> None:
    reference = answering(10)
    gate.judge_examples(FLOORS, answering(19), reference, LABELS)  # 0.018 - 2 x 0.0059 = 0.006
    with pytest.raises(
        Refused, match=r"0\.0320 accuracy less than fp32 .* at most 0\.01 is allowed: restore"
    ):
        gate.judge_examples(FLOORS, answering(26), reference, LABELS)  # 0.032 - 2 x 0.0079 = 0.016


def test_errors_elsewhere_than_fp32_s_make_a_loss_less_certain() -> None:
    base, same, other = (
        gate.measure(answers, LABELS, answering(10), "accuracy").terms
        for answers in (answering(10), answering(20), answering(20, first=100))
    )
    assert (base - other).std() > (base - same).std()


def test_the_largest_loss_is_one_point_unless_said() -> None:
    with pytest.raises(Refused, match=r"at most 0\.01"):
        gate.judge_examples({"accuracy": 0.5}, answering(40), answering(10), LABELS)
    gate.judge_examples({"accuracy": 0.5, "largest_loss": 0.1}, answering(40), answering(10), LABELS)


def test_agreement_with_fp32_needs_no_labels() -> None:
    unknown = np.full(COUNT, -1)
    found = gate.judge_examples({"agreement": 0.9}, answering(20), answering(0), unknown)
    assert found["agreement"]["value"] == 0.96
    with pytest.raises(Refused, match="agreement"):
        gate.judge_examples({"agreement": 0.9}, answering(90), answering(0), unknown)


def regression(noise: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    right = rng.normal(8, 1, COUNT).astype(np.float32)
    return (right + rng.normal(0, noise, COUNT).astype(np.float32))[:, None], right


def test_r2_and_its_standard_error_are_those_of_many_samples() -> None:
    rng = np.random.default_rng(2)
    answers, right = regression(0.3)
    found = gate.measure(answers, right, answers, "r2")
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, COUNT, COUNT)
        drawn.append(gate.measure(answers[rows], right[rows], answers[rows], "r2").value)
    assert found.value == pytest.approx(1 - 0.3**2, abs=0.04)
    assert found.terms.mean() == pytest.approx(found.value)
    assert found.terms.std() / COUNT**0.5 == pytest.approx(np.std(drawn), rel=0.15)


def test_a_regression_below_its_floor_is_refused() -> None:
    answers, right = regression(0.5)
    with pytest.raises(Refused, match="r2 "):
        gate.judge_examples({"r2": 0.9}, answers, answers, right)


def test_a_variant_that_once_answers_no_number_is_refused() -> None:
    answers = answering(0)
    answers[0] = np.nan, *[0] * 9  # its label would still be taken for the right one
    with pytest.raises(Refused, match="no number"):
        gate.judge_examples(FLOORS, answers, answering(0), LABELS)


def test_a_handful_of_examples_is_too_few_to_judge_by() -> None:
    few = gate.LEAST_EXAMPLES - 1
    with pytest.raises(Refused, match="has 99 examples, at least 100 are needed"):
        gate.judge_examples(FLOORS, answering(0)[:few], answering(0)[:few], LABELS[:few])


@pytest.mark.parametrize(
    ("recorded", "is_refused"), [(0.86, False), (0.80, False), (0.97, True), (7.0, True)]
)
def test_a_record_that_the_examples_contradict_is_refused(recorded: float, *, is_refused: bool) -> None:
    examples = gate.judge_examples({"accuracy": 0.8}, answering(70), answering(70), LABELS)  # 0.86, s 0.0155
    if not is_refused:
        gate.check_record({"accuracy": recorded}, examples)
        return
    with pytest.raises(Refused, match=r"accuracy 0\.8600 on the examples, but .* run `make eval`"):
        gate.check_record({"accuracy": recorded}, examples)


def test_the_build_holds_the_record_against_the_examples(tmp_path: Path) -> None:
    def write(path: Path) -> Mapping[str, Any]:
        path.mkdir()
        return {"metrics": {"accuracy": {"value": 0.8, "standard_error": 0.01}}}

    true, forged = (Artifact("onnx/thing", [], write, record=partial(dict, accuracy=a)) for a in (0.81, 0.99))
    assert build.bring_up_to_date(true, tmp_path)
    with pytest.raises(Refused, match=r"0\.8000 on the examples, but 0\.9900 in evaluation\.json"):
        build.bring_up_to_date(forged, tmp_path)


def test_examples_that_are_all_right_do_not_contradict_a_record_below_one() -> None:
    examples = gate.judge_examples(FLOORS, answering(0), answering(0), LABELS)
    gate.check_record({"accuracy": 0.9936}, examples)


def test_a_contract_without_a_metric_s_floor_is_refused() -> None:
    with pytest.raises(BuildError, match="no floor"):
        gate.metrics_of({"largest_loss": 0.01})


SHA256 = {"fp32": "a" * 64, "int8": "b" * 64}


def recorded(folder: Path, **accuracies: float) -> Path:
    path = folder / "digits" / "versions" / "1" / "evaluation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    variants = {name: {"sha256": SHA256[name], "metrics": {"accuracy": a}} for name, a in accuracies.items()}
    path.write_text(json.dumps({"variants": variants}))
    return path


def test_the_record_must_meet_floor_and_loss_exactly(tmp_path: Path) -> None:
    path = recorded(tmp_path, fp32=0.99, int8=0.98)
    assert gate.judge_record(FLOORS, path, "int8", SHA256) == {"accuracy": 0.98}
    with pytest.raises(Refused, match=r"0\.0101 accuracy less than fp32 on the whole test split"):
        gate.judge_record(FLOORS, recorded(tmp_path, fp32=0.99, int8=0.9799), "int8", SHA256)
    with pytest.raises(Refused, match=r"accuracy 0\.9499 on the whole test split, its floor is 0\.95"):
        gate.judge_record(FLOORS, recorded(tmp_path, fp32=0.95, int8=0.9499), "int8", SHA256)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_without_a_record_nothing_is_published(tmp_path: Path, variant: str) -> None:
    path = tmp_path / "digits" / "versions" / "1" / "evaluation.json"
    with pytest.raises(Refused, match="run `make eval MODEL=digits`"):
        gate.judge_record(FLOORS, path, variant, SHA256)


def test_a_record_of_other_weights_does_not_count(tmp_path: Path) -> None:
    path = recorded(tmp_path, fp32=0.99, int8=0.99)
    with pytest.raises(Refused, match=r"other weights of int8 .*make eval MODEL=digits"):
        gate.judge_record(FLOORS, path, "int8", {**SHA256, "int8": "c" * 64})
    with pytest.raises(Refused, match="other weights of fp32"):
        gate.judge_record(FLOORS, path, "int8", {**SHA256, "fp32": "c" * 64})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"variants": {"int8": 1}}', '{"variants": {"int8": {"sha256": "b", "metrics": []}}}'],
)
def test_a_broken_record_does_not_count(tmp_path: Path, text: str) -> None:
    path = recorded(tmp_path, fp32=0.99)
    path.write_text(text)
    with pytest.raises(Refused, match="has no evaluation of int8"):
        gate.judge_record(FLOORS, path, "int8", SHA256)


def test_a_record_without_the_metric_does_not_count(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no r2 of int8"):
        gate.judge_record({"r2": 0.9}, recorded(tmp_path, fp32=0.9, int8=0.9), "int8", SHA256)
