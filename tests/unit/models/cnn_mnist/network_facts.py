"""Trains and prunes the network on a few images, prints facts; run by test_network.py, where torch is."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import samples
from models.cnn_mnist import compress, train
from models.cnn_mnist.network import Network, of
from models.samples import Samples, Splits
from models.training.loop import Plan, fit

FEW = samples.read(Path(train.__file__).parent / "calibration.zip")
DATA = Splits(FEW[:200], FEW[200:], FEW[200:])


def shifts() -> dict[str, Any]:
    """How a digit moves, and how much of its ink is left."""
    digit = np.zeros((28, 28), np.uint8)
    digit[10:18, 12:16] = 200
    moved: NDArray[np.uint8] = train.shifted(np.stack([digit] * 200), np.random.default_rng(1))
    corners = [tuple(int(axis.min()) for axis in np.nonzero(image)) for image in moved]
    return {
        "rows": sorted({row for row, _ in corners}),
        "columns": sorted({column for _, column in corners}),
        "ink": sorted({int(image.sum()) // int(digit.sum()) for image in moved}),
    }


def main(folder: Path) -> None:
    """Print the facts; `folder` is for checkpoints."""
    torch.manual_seed(1)
    teacher, pruned = Network(), Network()
    taught = fit(teacher, train.Digits(DATA), Plan(epochs=8, rate=2e-3, patience=0), folder / "fp32")
    pruned.load_state_dict(teacher.state_dict())
    task = train.Digits(DATA, teacher)
    compress.prune(pruned.eval(), task)
    kept = fit(pruned, task, Plan(epochs=3, rate=1e-3, patience=0), folder / "pruned")
    images = torch.rand(4, 28, 28, 1)
    facts = {
        "parameters": sum(value.numel() for value in Network().parameters()),
        "losses": taught.losses,
        "score": taught.scores[-1],
        "pruned_score": kept.scores[-1],
        "accuracy": train.accuracy(pruned, Samples(FEW.payloads[200:], FEW.labels[200:])),
        "shapes": {name: list(value.shape) for name, value in pruned.state_dict().items()},
        "reloaded": torch.equal(of(pruned.state_dict())(images), pruned(images)),
        "shifts": shifts(),
    }
    sys.stdout.write("\n" + json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
