"""The network, its pretrained backbone, its training and its pruning, where torch is installed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
PYTHON = ROOT / ".venvs" / "models" / "bin" / "python"
SCRIPT = Path(__file__).with_name("network_facts.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def facts(case: str, folder: Path) -> Any:
    command: list[str | Path] = [PYTHON, SCRIPT, case, folder]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_files_of_keras_2_and_3_give_the_same_backbone(tmp_path: Path) -> None:
    found = facts("backbones", tmp_path)
    assert found.pop("missing")[0].endswith("num_batches_tracked"), "which is counted anew"
    assert found == {"same": True, "expand": True, "depthwise": True, "variance": 4.0}


def test_a_norm_folded_into_its_kernel_changes_nothing(tmp_path: Path) -> None:
    assert max(facts("fold", tmp_path).values()) < 1e-5


def test_a_row_s_answer_depends_on_nothing_but_the_row_and_the_checkpoint(tmp_path: Path) -> None:
    found = facts("rows", tmp_path)
    assert found["shape"] == [4, 10]
    assert found["sums"] == pytest.approx([1] * 4, abs=1e-5)
    assert found["apart"] < 1e-5
    assert found["loaded"] < 1e-6, "widths are read from the checkpoint"


def test_training_goes_through_its_stages_and_learns_from_labels_and_teachers(tmp_path: Path) -> None:
    found = facts("training", tmp_path)
    assert found["epochs"] == 8
    assert found["best"] > 4, "the second stage's"
    for losses in (found["labels"], found["taught_24"], found["taught_16"]):
        assert losses[-1] < 0.95 * losses[0]


def test_pruning_halves_the_expansions_and_keeps_the_widths_between_blocks(tmp_path: Path) -> None:
    assert facts("pruning", tmp_path) == {"inner": 16, "between": 16, "apart": 0}
