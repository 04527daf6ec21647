"""The private fit, where diffprivlib is installed."""

import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
PYTHON = ROOT / ".venvs" / "models" / "bin" / "python"
SCRIPT = Path(__file__).with_name("diamonds_facts.py")


@pytest.fixture(scope="module")
def facts() -> Any:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [PYTHON, SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_noise_the_fit_finds_the_weights(facts: Any) -> None:
    assert facts["plain"] < 0.01


def test_more_privacy_costs_accuracy(facts: Any) -> None:
    assert statistics.median(facts["strict"]) < statistics.median(facts["lax"])
    assert min(facts["lax"]) > 0.9


def test_noise_is_the_same_only_for_the_same_seed(facts: Any) -> None:
    first, second = facts["seeded"]
    assert first == second
    first, second = facts["unseeded"]
    assert first != second
