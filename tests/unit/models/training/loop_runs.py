"""Trains a small network in several ways and prints what happened; run by test_loop.py, where torch is."""

import atexit
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from models.training.loop import Plan, Rows, bucketed, device, fit, rate_ratio, shuffled

ROWS, BATCH = 96, 8


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """[N, 4] to the logits [N, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)

    def logits(self, x: Tensor) -> Tensor:
        """Before softmax."""
        return self.last(torch.tanh(self.norm(self.first(x))))


class Task:
    """Is the sum positive? `scores` replaces the validation score, `fail_at` stops an epoch."""

    def __init__(self, *, scores: Sequence[float] = (), fail_at: int = 0) -> None:
        self.x = torch.from_numpy(np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32))
        self.y = (self.x.sum(1) > 0).long()
        self.scores, self.fail_at, self.epochs = list(scores), fail_at, 0

    def batches(self, rng: np.random.Generator) -> list[Rows]:
        """All rows by lot."""
        return shuffled(ROWS, BATCH, rng)

    def loss(self, call: Callable[..., Any], rows: Rows, _rng: np.random.Generator) -> Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(call(self.x[rows]), self.y[rows])

    def score(self, network: Network) -> float:
        """Accuracy, or what the test says."""
        self.epochs += 1
        if self.epochs == self.fail_at:
            raise KeyboardInterrupt
        if self.scores:
            return self.scores[self.epochs - 1]
        return float((network.logits(self.x).argmax(1) == self.y).float().mean())


def trained(task: Task, folder: Path, **plan: Any) -> tuple[list[float], dict[str, Any]]:
    """The network's parameters in one list, and the history."""
    torch.manual_seed(0)
    network = Network()
    history = fit(network, task, Plan(**{"epochs": 4, "rate": 0.05, "patience": 0} | plan), folder)
    return torch.cat([value.reshape(-1) for value in network.state_dict().values()]).tolist(), {
        "losses": history.losses, "scores": history.scores, "best_epoch": history.best_epoch,
        "rates": history.rates, "training": network.training,
    }  # fmt: skip


def main() -> None:
    """Print the facts of one case."""
    case, folder = sys.argv[1], Path(sys.argv[2])
    facts: Any
    if case == "resume":
        whole = trained(Task(), folder / "whole")
        try:
            trained(Task(fail_at=3), folder / "stopped")
        except KeyboardInterrupt:
            facts = {"whole": whole, "resumed": trained(Task(), folder / "stopped")}
    elif case == "early":
        facts = trained(Task(scores=[0.5, 0.7, 0.6, 0.6, 0.9]), folder, epochs=5, patience=2)
    elif case == "ranks":
        rank = os.environ.get("RANK", "0")
        left = folder / f"left{rank}"
        atexit.register(
            lambda: left.write_text(str(not distributed.is_initialized()))
        )  # runs after fit's own
        facts = trained(Task(), folder)
        (folder / f"rank{rank}.json").write_text(json.dumps(facts))
        return
    elif case == "ranks_early":
        rank = os.environ.get("RANK", "0")
        scores = [0.5, 0.7, 0.6, 0.6, 0.9] if rank == "0" else [0.1, 0.2, 0.3, 0.4, 0.5]
        facts = trained(Task(scores=scores), folder, epochs=5, patience=2)
        (folder / f"rank{rank}.json").write_text(json.dumps(facts))
        return
    elif case == "sgd":
        facts = trained(Task(), folder, optimizer="sgd", schedule="linear")
    else:
        lengths = np.random.default_rng(1).integers(1, 50, 100)
        batches = bucketed(lengths, 10, np.random.default_rng(2), window=10)
        ratio = rate_ratio(Plan(1, 1.0, schedule="cosine", warm_up_ratio=0.1), 100)
        facts = {
            "rows": np.concatenate(batches).tolist(),
            "spread": float(np.mean([np.ptp(lengths[rows]) for rows in batches])),
            "devices": [[str(device(rank, gpus)) for rank in range(3)] for gpus in (0, 1, 2)],
            "ratios": [ratio(step) for step in range(101)],
        }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
