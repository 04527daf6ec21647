"""Measures made-up answers and prints what came of it; test_measured.py runs it where scikit-learn is."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation import benchmark, evaluate, metrics, report
from models.samples import Samples

CONTRACT = {"outputs": [{"labels": ["a", "b", "c"]}]}
LABELS = np.array([0, 0, 1, 1, 2, 2])


def probabilities(answered: list[int], sure: float = 0.8) -> NDArray[np.float32]:
    """That sure of each answer."""
    found = np.full((len(answered), 3), (1 - sure) / 2, np.float32)
    found[np.arange(len(answered)), answered] = sure
    return found


def known(labels: NDArray[Any]) -> Samples:
    """Empty payloads with these labels."""
    return Samples([b""] * len(labels), labels)


def main() -> None:
    """Print one object."""
    right, wrong = probabilities([0, 0, 1, 1, 2, 2]), probabilities([0, 0, 1, 1, 2, 0])
    found = {"fp32": right, "int8": wrong}
    binary = np.array([[0.9, 0.1], [0.4, 0.6], [0.65, 0.35], [0.2, 0.8]], np.float32)
    numbers = np.array([[1.0], [2.0], [3.0], [5.0]], np.float32)
    seconds = {"torch": [8.0, 80.0, 8.0], "fp32": [4.0, 40.0, 4.0], "int8": [2.0, 10.0, 2.0]}
    calls: list[str] = []
    turns = benchmark.turns(
        {name: (lambda name=name: calls.append(name)) for name in ("a", "b")},  # type: ignore[misc]
        rounds=4, what="turns", rng=np.random.default_rng(0),
    )  # fmt: skip
    exit_code = report.main(["--models", sys.argv[1], "--out", sys.argv[2]])
    facts = {
        "classified": evaluate.scores(found, known(LABELS), CONTRACT),
        "unlabelled": evaluate.scores(found, known(np.full(6, -1)), CONTRACT),
        "regression": evaluate.scores(
            {"fp32": numbers}, known(np.array([1, 2, 3, 4], np.float32)), {"task": "regression"}
        ),
        "binary": metrics.classification(binary, np.array([0, 0, 1, 1]), ["no", "yes"]),
        "sure": metrics.calibration_error(probabilities([0, 0, 1, 2], 1.0), np.array([0, 0, 1, 1])),
        "speed": benchmark.summary(seconds, "fp32"),
        "turns": {name: len(times) for name, times in turns.items()},
        "exit": exit_code,
        "sizes": {path.name: path.stat().st_size for path in Path(sys.argv[2]).iterdir()},
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
