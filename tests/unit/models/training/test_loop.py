import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
MODELS = ROOT / ".venvs" / "models" / "bin"
SCRIPT = Path(__file__).with_name("loop_runs.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(case: str, folder: Path) -> Any:
    if not MODELS.exists():
        pytest.skip("there is no .venvs/models: run `make env-models`")
    command = [str(MODELS / "python"), "-W", "error", str(SCRIPT), case, str(folder)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    facts = run("resume", tmp_path)
    assert facts["resumed"] == facts["whole"]
    _, history = facts["whole"]
    assert history["losses"][-1] < history["losses"][0] / 2
    assert len(history["losses"]) == 4


def test_it_stops_when_the_score_no_longer_rises_and_keeps_the_best_weights(tmp_path: Path) -> None:
    _, history = run("early", tmp_path)
    assert history["scores"] == [0.5, 0.7, 0.6, 0.6]
    assert history["best_epoch"] == 2
    assert history["training"] is False


def in_two_processes(case: str, folder: Path) -> list[Any]:
    if not MODELS.exists():
        pytest.skip("there is no .venvs/models: run `make env-models`")
    launcher = [str(MODELS / "torchrun"), "--standalone", "--nproc-per-node=2"]
    command = [*launcher, str(SCRIPT), case, str(folder)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_processes_whose_scores_differ_stop_together(tmp_path: Path) -> None:
    first, second = in_two_processes("ranks_early", tmp_path)
    assert first[1]["scores"] == second[1]["scores"] == [0.5, 0.7, 0.6, 0.6]
    assert first[1]["best_epoch"] == second[1]["best_epoch"] == 2
    assert first[0] == second[0]


def test_two_processes_end_with_the_same_weights_and_share_the_work(tmp_path: Path) -> None:
    ranks = in_two_processes("ranks", tmp_path)
    assert ranks[0][0] == ranks[1][0]  # a norm's running statistics among them
    assert ranks[0][1]["losses"] != ranks[1][1]["losses"]  # each saw its own half of the rows
    assert ranks[0][1]["scores"][-1] > 0.9
    # A group that is still there when the interpreter ends aborts it, one time in eight.
    assert [(tmp_path / f"left{rank}").read_text() for rank in range(2)] == ["True", "True"]


def test_stochastic_gradient_descent_learns_too(tmp_path: Path) -> None:
    _, history = run("sgd", tmp_path)
    assert history["scores"][-1] > 0.9


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What training does in which order, where, and how fast."""
    return run("order", tmp_path_factory.mktemp("order"))


def test_buckets_hold_every_row_once_and_rows_of_like_length(order: Any) -> None:
    assert sorted(order["rows"]) == list(range(100))
    assert order["spread"] < 10  # of lengths 1 to 49, by lot about 40


def test_processes_share_out_the_gpus_of_a_machine(order: Any) -> None:
    without, one, two = order["devices"]
    assert without == ["cpu"] * 3
    assert one == ["cuda:0"] * 3
    assert two == ["cuda:0", "cuda:1", "cuda:0"]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth(order: Any) -> None:
    ratios = order["ratios"]
    assert ratios[0] == pytest.approx(0.1)
    assert max(ratios) == ratios[10] == 1.0
    assert ratios[100] == 0.01
    assert ratios[10:] == sorted(ratios[10:], reverse=True)
