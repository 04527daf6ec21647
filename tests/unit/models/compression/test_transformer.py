"""Pruning of heads and neurons, on a small BERT, in the environment that has torch."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    command = [ROOT / ".venvs/models/bin/python", Path(__file__).with_name("pruned_transformer.py")]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_unit_that_nobody_hears_matters_nothing_and_any_other_more(facts: dict[str, Any]) -> None:
    assert facts["idle_heads"] == [0, 0]
    assert facts["least_used_head"] > 0
    assert facts["idle_neurons"] == [0, 0, 0]
    assert facts["least_used_neuron"] > 0


def test_measuring_leaves_the_network_as_it_was(facts: dict[str, Any]) -> None:
    assert facts["hooks_left"] == 0


def test_removing_what_nobody_hears_changes_no_answer(facts: dict[str, Any]) -> None:
    assert facts["query"] == [2 * 32, 64]
    assert facts["down"] == [64, 24 - 3]
    assert facts["difference"] <= 1e-6


def test_the_weakest_of_all_layers_go_first_each_by_its_layer_s_norm(facts: dict[str, Any]) -> None:
    # by their norms: 0.14 0.70 0.42 0.56 | 0.9997 0.01 0.02 0.03
    assert facts["strongest"] == [[1, 2, 3], [0]]


def test_every_layer_keeps_a_least_number_and_a_multiple(facts: dict[str, Any]) -> None:
    assert facts["in_twos"] == [[0, 1, 2, 3], [0, 3]]
