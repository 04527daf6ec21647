"""Prune the trained network to half its filters and hidden units, and teach it again; minutes of a CPU core.

    python -m models.cnn_mnist.compress

Reads versions/1/fp32.safetensors, writes versions/1/pruned.safetensors. The unpruned network is the teacher.
The test split is not looked at.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.cnn_mnist import transform
from models.cnn_mnist.data import splits
from models.cnn_mnist.network import Network, of
from models.cnn_mnist.train import FOLDER, RUN, Digits
from models.compression import channels
from models.training.checkpoints import load, save
from models.training.loop import Plan, fit
from models.training.packages import DataError

KEEP = 0.5
JUDGES = 2048  # training images that tell a channel's importance
PLAN = Plan(epochs=6, rate=1e-3, patience=0)


def prune(network: Network, task: Digits) -> None:
    """Remove channels and hidden units, in place."""
    images = torch.from_numpy(transform.scaled(task.images[:JUDGES]))
    labels = task.labels[:JUDGES].cpu()

    def loss(judged: nn.Module) -> Tensor:
        found: Tensor = functional.cross_entropy(judged.logits(images), labels)
        return found

    channels.prune(network, images[:1], keep=KEEP, loss=loss, ignored=[network.dense2])


def main() -> None:
    """Prune, teach, save."""
    parser = argparse.ArgumentParser(prog="python -m models.cnn_mnist.compress")
    parser.add_argument(
        "--out", type=Path, default=FOLDER / "pruned.safetensors", help="where the weights go"
    )
    arguments = parser.parse_args()
    weights = load(FOLDER / "fp32.safetensors")
    try:
        task = Digits(splits(), teacher=of(weights))
    except DataError as error:
        raise SystemExit(str(error)) from error
    network = of(weights)
    prune(network, task)
    history = fit(network, task, PLAN, RUN / "pruned")
    save(network, arguments.out, history)


if __name__ == "__main__":
    main()
