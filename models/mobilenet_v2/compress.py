"""Make the pruned checkpoint: half the expansion channels go, then what is left learns again.

    .venvs/models/bin/python -m models.mobilenet_v2.compress

Pruned are the wide insides of the inverted residuals, the stem and the top; the narrow widths between the
blocks stay, since to halve them costs far more accuracy than time. Which channels go is decided by
models/compression/channels.py on training images. Writes versions/1/pruned.safetensors in half precision. The
test split is not looked at.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.compression import channels
from models.mobilenet_v2 import train, transform
from models.mobilenet_v2.data import splits
from models.mobilenet_v2.network import Network, of
from models.mobilenet_v2.train import FOLDER, RUN, Stage
from models.samples import Splits
from models.training.checkpoints import load, save
from models.training.loop import Plan
from models.training.packages import DataError

KEEP = 0.5
JUDGED, JUDGED_SIDE = 128, 128
"""How many training images decide by their loss which channels go, and at which size."""
STAGES = (
    Stage(224, 5000, 1000, 32, Plan(epochs=1, rate=5e-4, patience=0, seed=7), taught=True),
    Stage(224, 7000, 1000, 32, Plan(epochs=1, rate=5e-4, patience=0, seed=8), taught=True),
)


def pruned(network: Network, data: Splits, keep: float = KEEP) -> Network:
    """`network` with a share of its inner channels, in place; not yet tuned."""
    rows = np.random.default_rng(1).permutation(len(data.train))[:JUDGED]
    pixels = [transform.article(data.train.payloads[row]) for row in rows]
    images, labels = train.batch(pixels, JUDGED_SIDE), torch.from_numpy(data.train.labels[rows])

    def loss(judged: nn.Module) -> Tensor:
        return functional.cross_entropy(judged.logits(images), labels)

    ignored = [network.dense, *(block.project.conv for block in network.blocks)]
    channels.prune(network, images[:1], keep=keep, loss=loss, ignored=ignored)
    return network


def main() -> None:
    """Prune, tune, save."""
    parser = argparse.ArgumentParser(prog="python -m models.mobilenet_v2.compress")
    parser.add_argument("--weights", type=Path, default=FOLDER / "fp32.safetensors", help="what is pruned")
    parser.add_argument(
        "--out", type=Path, default=FOLDER / "pruned.safetensors", help="where the weights go"
    )
    arguments = parser.parse_args()
    try:
        data = splits()
    except DataError as error:
        raise SystemExit(str(error)) from error
    network = pruned(of(load(arguments.weights)), data)
    print(f"{sum(value.numel() for value in network.parameters()):,} parameters are left", flush=True)
    teacher = of(load(FOLDER / "teacher.safetensors"))
    history = train.tune(network, data, STAGES, RUN / "pruned", teacher)
    print(f"validation accuracy: {history.scores[-1]:.4f}")
    save(network, arguments.out, history)


if __name__ == "__main__":
    main()
