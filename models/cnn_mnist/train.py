"""Train the network on MNIST; about six minutes on one CPU core.

    make train MODEL=cnn_mnist

Writes versions/1/fp32.safetensors in half precision. The test split is not looked at.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.cnn_mnist import transform
from models.cnn_mnist.data import splits
from models.cnn_mnist.network import Network
from models.samples import Samples, Splits
from models.training.checkpoints import save
from models.training.loop import DEVICE, Plan, Rows, device_of, fit, shuffled
from models.training.packages import DATA, DataError

FOLDER = Path(__file__).parent / "versions" / "1"
RUN = DATA.parent / "training" / "cnn_mnist"
PLAN = Plan(epochs=10, rate=2e-3, patience=0)
BATCH = 128
MAX_SHIFT = 2  # pixels; a digit has a margin of at least 4, so nothing is cut off


class Digits:
    """The task: which digit is it, each moved by up to MAX_SHIFT pixels.

    Args:
        data: training and validation images.
        teacher: a network whose logits are learned too (G. Hinton et al., arXiv:1503.02531).
    """

    TEMPERATURE = 3.0

    def __init__(self, data: Splits, teacher: Network | None = None) -> None:
        self.images = pixels(data.train)
        self.labels = torch.from_numpy(data.train.labels).to(DEVICE)
        self.validation = data.validation
        self.teacher = teacher and teacher.to(DEVICE)

    def batches(self, rng: np.random.Generator) -> Sequence[Rows]:
        """Every image once."""
        return shuffled(len(self.images), BATCH, rng)

    def loss(self, call: Callable[..., Any], rows: Rows, rng: np.random.Generator) -> Tensor:
        """Cross-entropy; with a teacher the mean of it and the divergence from what the teacher says."""
        images = torch.from_numpy(transform.scaled(shifted(self.images[rows], rng))).to(DEVICE)
        logits = call(images)
        loss: Tensor = functional.cross_entropy(logits, self.labels[rows])
        if self.teacher is None:
            return loss
        with torch.no_grad():
            wanted = functional.log_softmax(self.teacher.logits(images) / self.TEMPERATURE, dim=1)
        said = functional.log_softmax(logits / self.TEMPERATURE, dim=1)
        divergence = functional.kl_div(said, wanted, reduction="batchmean", log_target=True)
        mean: Tensor = (loss + self.TEMPERATURE**2 * divergence) / 2
        return mean

    def score(self, network: nn.Module) -> float:
        """Accuracy on the validation images."""
        return accuracy(network, self.validation)


def pixels(data: Samples) -> NDArray[np.uint8]:
    """uint8 [N, 28, 28], as the gateway reads them."""
    items = [transform.to_inputs(payload)["image"][:, :, 0] for payload in data.payloads]
    whole: NDArray[np.uint8] = (np.stack(items) * np.float32(255)).round().astype(np.uint8)
    return whole


def shifted(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each image moved by up to MAX_SHIFT pixels both ways. uint8 [N, 28, 28]."""
    padded = np.pad(images, ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT)))
    top, left = rng.integers(0, 2 * MAX_SHIFT + 1, (2, len(images), 1, 1))
    rows = np.arange(images.shape[1])[None, :, None] + top
    columns = np.arange(images.shape[2])[None, None, :] + left
    moved: NDArray[np.uint8] = padded[np.arange(len(images))[:, None, None], rows, columns]
    return moved


def accuracy(network: nn.Module, data: Samples) -> float:
    """The share of images whose most probable digit is the right one."""
    with torch.inference_mode():
        images = torch.from_numpy(transform.scaled(pixels(data))).to(device_of(network))
        answers = network(images).argmax(1).cpu().numpy()
    return float((answers == data.labels).mean())


def main() -> None:
    """Train, save."""
    parser = argparse.ArgumentParser(prog="python -m models.cnn_mnist.train")
    parser.add_argument("--out", type=Path, default=FOLDER / "fp32.safetensors", help="where the weights go")
    arguments = parser.parse_args()
    try:
        data = splits()
    except DataError as error:
        raise SystemExit(str(error)) from error
    torch.manual_seed(PLAN.seed)
    network = Network()
    history = fit(network, Digits(data), PLAN, RUN / "fp32")
    save(network, arguments.out, history)


if __name__ == "__main__":
    main()
