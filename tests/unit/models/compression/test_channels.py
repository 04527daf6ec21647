"""Structured pruning, on small networks, in the environment that has torch."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    command = [ROOT / ".venvs/models/bin/python", Path(__file__).with_name("pruned_networks.py")]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_layer_s_filters_leave_with_all_that_belongs_to_them(facts: dict[str, Any]) -> None:
    shapes = facts["shapes"]
    assert shapes["first.weight"] == [16, 1, 3, 3]
    assert shapes["first.bias"] == shapes["norm.weight"] == shapes["norm.running_mean"] == [16]
    assert shapes["second.weight"] == [8, 16, 3, 3]
    assert shapes["dense.weight"] == [5, 8 * 16], "an ignored layer keeps its outputs"


def test_channels_that_change_no_answer_are_the_first_to_go(facts: dict[str, Any]) -> None:
    assert facts["kept_the_useful"]
    assert facts["difference"] <= 1e-5


def test_what_a_layer_keeps_is_a_multiple_of_eight(facts: dict[str, Any]) -> None:
    assert facts["of_three_quarters"] == 24
    assert facts["of_two_thirds"] == 16, "two thirds of 24, rounded down"


def test_no_gradients_are_left_behind(facts: dict[str, Any]) -> None:
    assert facts["gradients_left"] == 0


def test_a_layer_that_would_keep_less_than_a_multiple_keeps_all(facts: dict[str, Any]) -> None:
    assert facts["of_too_few"] == 8
