"""Train the network on MNIST's 60,000 training images; a few minutes on two CPU cores.

    .venvs/torchserve/bin/python -m models.cnn_mnist.train

Writes the weights, and prints what is left to do with them. The 10,000 test images only measure.
"""

import argparse
import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from models.cnn_mnist.network import Network
from models.cnn_mnist.transform import scaled
from models.training import mnist

WEIGHTS = Path(__file__).parent / "versions" / "1" / "weights.safetensors"
BATCH = 128
PEAK_RATE = 4e-3
MAX_SHIFT = 2  # pixels; a digit has a margin of at least 4, so nothing is cut off


def shifted(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each image moved by up to MAX_SHIFT pixels both ways. uint8 [N, 28, 28]."""
    padded = np.pad(images, ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT)))
    top, left = rng.integers(0, 2 * MAX_SHIFT + 1, (2, len(images), 1, 1))
    rows = np.arange(images.shape[1])[None, :, None] + top
    columns = np.arange(images.shape[2])[None, None, :] + left
    moved: NDArray[np.uint8] = padded[np.arange(len(images))[:, None, None], rows, columns]
    return moved


def train(network: Network, data: mnist.Split, *, epochs: int, seed: int) -> None:
    """Train in place: Adam, one rise and fall of the learning rate (L. N. Smith, arXiv:1708.07120)."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(data.labels.astype(np.int64))
    steps = -(-len(labels) // BATCH)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, epochs * steps)
    for epoch in range(1, epochs + 1):
        begun, total = time.monotonic(), 0.0
        images = scaled(shifted(data.images, rng))
        for rows in np.array_split(rng.permutation(len(labels)), steps):
            loss = cross_entropy(network.logits(torch.from_numpy(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch}/{epochs}: loss {total / steps:.4f}, {time.monotonic() - begun:.1f} s", flush=True
        )


def accuracy(network: Network, data: mnist.Split) -> float:
    """The share of images whose most probable digit is the right one."""
    with torch.inference_mode():
        answers = network(torch.from_numpy(scaled(data.images))).argmax(1).numpy()
    return float((answers == data.labels).mean())


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(prog="python -m models.cnn_mnist.train", description=__doc__)
    parser.add_argument("--epochs", type=int, default=12, help="passes over the training images (12)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and shifts (1)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go (version 1)")
    arguments = parser.parse_args()
    try:
        train_split, test_split = mnist.load()
    except mnist.DataError as error:
        raise SystemExit(str(error)) from error
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(mode=True)
    network = Network()
    begun = time.monotonic()
    train(network, train_split, epochs=arguments.epochs, seed=arguments.seed)
    print(f"trained in {time.monotonic() - begun:.0f} s")
    print(f"accuracy on the {len(test_split.labels)} test images: {accuracy(network, test_split):.4f}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), arguments.out)
    arguments.out.chmod(0o644)  # safetensors makes it readable for its owner alone
    print(f"wrote {arguments.out}\n  sha256: {hashlib.sha256(arguments.out.read_bytes()).hexdigest()}")
    print(
        "now put that sha256 into model.yaml, and run `python -m models.cnn_mnist.export onnx`, `make models`"
    )


if __name__ == "__main__":
    main()
