"""What needs scikit-learn, torch and Matplotlib, run in .venvs/models."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.models.evaluation import model_folder

ROOT = Path(__file__).resolve().parents[4]
PYTHON = ROOT / ".venvs" / "models" / "bin" / "python"
HISTORY = {
    "losses": [1.0, 0.5],
    "scores": [0.8, 0.9],
    "rates": [0.1, 0.2],
    "seconds": [1, 1],
    "best_epoch": 2,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def facts(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not PYTHON.exists():
        pytest.skip("there is no .venvs/models: run `make env-models`")
    models = tmp_path_factory.mktemp("models")
    good = model_folder.write(models / "good", {"fp32": 0.96, "int8": 0.955})
    (good / "versions/1/history.json").write_text(json.dumps(HISTORY))
    (good / "anchors.json").write_text(
        json.dumps([{"name": "n-grams", "metric": "accuracy", "value": 0.862}])
    )
    model_folder.write(models / "poor", {"fp32": 0.96, "int8": 0.9})
    missing = model_folder.write(models / "unmeasured", {"fp32": 0.96})
    (missing / "versions/1/evaluation.json").unlink()
    script = Path(__file__).with_name("measured.py")
    done = subprocess.run(
        [str(PYTHON), "-W", "error", str(script), str(models), str(pages)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "unmeasured was not evaluated: run `make eval MODEL=unmeasured`" in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_classifier_is_counted_by_class_and_as_a_whole(facts: Any) -> None:
    int8 = facts["classified"]["int8"]
    assert int8["metrics"]["accuracy"] == pytest.approx(5 / 6, abs=1e-6)
    assert int8["metrics"]["agreement"] == pytest.approx(5 / 6, abs=1e-6)
    assert int8["confusion"] == [[2, 0, 0], [0, 2, 0], [1, 0, 1]]
    first, _, last = int8["per_class"]
    assert (first["label"], first["precision"], first["recall"]) == ("a", pytest.approx(2 / 3, abs=1e-6), 1)
    assert (last["precision"], last["recall"], last["f1"]) == (1, 0.5, pytest.approx(2 / 3, abs=1e-6))
    recalls = [entry["recall"] for entry in int8["per_class"]]
    assert int8["metrics"]["recall"] == pytest.approx(sum(recalls) / 3, abs=1e-6)
    assert facts["classified"]["fp32"]["metrics"]["roc_auc"] == 1


def test_roc_auc_of_two_classes_is_the_second_s(facts: Any) -> None:
    # of the four pairs of a right and a wrong example, three are in order
    assert facts["binary"]["metrics"]["roc_auc"] == 0.75
    curve = facts["binary"]["roc"]
    assert curve["true_positive_rate"][0] == 0.5  # one of two is found before any false alarm
    assert curve["true_positive_rate"][-1] == curve["false_positive_rate"][-1] == 1


def test_calibration_error_is_how_much_too_sure_a_classifier_is(facts: Any) -> None:
    assert facts["sure"] == 0.25
    assert facts["classified"]["fp32"]["metrics"]["calibration_error"] == pytest.approx(0.2, abs=1e-6)


def test_where_no_right_answer_is_known_only_agreement_is_told(facts: Any) -> None:
    assert facts["unlabelled"]["int8"] == {"metrics": {"agreement": pytest.approx(5 / 6, abs=1e-6)}}


def test_a_regression_is_told_by_r2_and_its_errors(facts: Any) -> None:
    assert facts["regression"]["fp32"]["metrics"] == {"r2": 0.8, "mae": 0.25, "rmse": 0.5}
    assert facts["regression"]["fp32"]["scatter"] == {"right": [1, 2, 3, 4], "answered": [1, 2, 3, 5]}


def test_ratios_are_formed_within_a_round(facts: Any) -> None:
    int8 = facts["speed"]["int8"]
    assert int8["seconds"]["median"] == 2
    assert int8["against_torch"] == {"median": 4, "low": 4, "high": 6}
    assert int8["against_onnxruntime"]["median"] == 2
    assert facts["turns"] == {"a": 4, "b": 4}


def test_a_model_that_was_not_measured_is_left_out_and_the_exit_code_says_so(facts: Any) -> None:
    assert facts["exit"] == 1
    assert set(facts["sizes"]) == {"good.html", "poor.html", "index.html"}
    assert max(facts["sizes"].values()) < 500_000


@pytest.mark.usefixtures("facts")
def test_a_page_needs_nothing_but_itself(pages: Path) -> None:
    for page in pages.iterdir():
        text = page.read_text()
        assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)", text), page.name
        names = re.findall(r'\bid="([^"]+)"', text)
        assert len(names) == len(set(names)), page.name
        assert "#0a0a0" not in text, "a colour of the drawing is left"


@pytest.mark.usefixtures("facts")
def test_a_page_begins_with_the_verdict(pages: Path) -> None:
    good, poor = ((pages / f"{name}.html").read_text() for name in ("good", "poor"))
    assert "every variant meets its floor" in good
    assert "1 of 2 variants refused" in poor
    assert "at most 0.01 is allowed" in poor
    assert "Which &lt;side&gt; wins &amp; loses." in good
    assert "it has no kernels" in good
    assert "n-grams" in good
    assert good.count("<svg") == 4  # quality against size, loss, validation, learning rate
