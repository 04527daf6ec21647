"""The network, its training and its pruning, on a few images, in the environment that has torch."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
PYTHON = ROOT / ".venvs" / "models" / "bin" / "python"
SCRIPT = Path(__file__).with_name("network_facts.py")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [PYTHON, SCRIPT, tmp_path_factory.mktemp("training")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_network_has_the_parameters_that_its_docstring_says(facts: dict[str, Any]) -> None:
    assert facts["parameters"] == 421_642


def test_training_learns_digits_from_two_hundred_images(facts: dict[str, Any]) -> None:
    assert facts["losses"][-1] < 0.75 * facts["losses"][0]
    assert facts["score"] >= 0.5


def test_pruning_halves_every_layer_but_the_last(facts: dict[str, Any]) -> None:
    shapes = facts["shapes"]
    assert shapes["conv1.weight"] == [16, 1, 3, 3]
    assert shapes["conv2.weight"] == [32, 16, 3, 3]
    assert shapes["dense1.weight"] == [64, 32 * 7 * 7]
    assert shapes["dense2.weight"] == [10, 64]


def test_a_pruned_network_learns_from_its_teacher(facts: dict[str, Any]) -> None:
    assert facts["pruned_score"] == facts["accuracy"] >= 0.5


def test_a_network_takes_its_sizes_from_its_checkpoint(facts: dict[str, Any]) -> None:
    assert facts["reloaded"]


def test_images_are_moved_by_up_to_two_pixels_and_keep_all_their_ink(facts: dict[str, Any]) -> None:
    assert facts["shifts"] == {"rows": [8, 9, 10, 11, 12], "columns": [10, 11, 12, 13, 14], "ink": [1]}
