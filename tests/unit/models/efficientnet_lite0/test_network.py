"""The network, the import of its weights and the correction of its biases, where torch is installed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
PYTHON = ROOT / ".venvs" / "models" / "bin" / "python"
SCRIPT = Path(__file__).with_name("lite0_facts.py")


@pytest.fixture(scope="module")
def facts() -> Any:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [PYTHON, SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_photo_of_a_cat_is_a_cat_and_so_on(facts: Any) -> None:
    answers = facts["answers"]
    assert answers["cat"][0] in {"tabby cat", "tiger cat", "Egyptian Mau"}
    assert answers["espresso"][0] == "espresso"
    assert answers["daisy"][0] == "daisy"


def test_a_strided_convolution_pads_as_tensorflow_does(facts: Any) -> None:
    assert facts["padding"] == 0


def test_batch_normalization_folded_into_a_convolution_changes_nothing(facts: Any) -> None:
    assert facts["folding"] < 1e-5


def test_corrected_biases_take_back_what_rounding_moved_and_leave_the_weights(facts: Any) -> None:
    found = facts["correction"]
    assert found["before"] > 1e-4
    assert found["after"] < 1e-6
    assert found["weights"] == 0
