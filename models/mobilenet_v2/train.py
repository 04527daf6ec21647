"""Train the network on Fashion-MNIST, from a backbone that knows photos.

    make train MODEL=mobilenet_v2

The document's transfer learning: a pretrained backbone, global average pooling, dense softmax; all layers are
tuned. An image of 28 x 28 pixels has no more to show at 224 x 224: most is learned small, where a pass costs
a twelfth, and only the end at the size that is served (M. Tan and Q. Le, arXiv:2104.00298, grow images
likewise). That end also gives batch normalization the statistics of that size.

Writes versions/1/fp32.safetensors in half precision. The test split is not looked at.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.mobilenet_v2 import pretrained, transform
from models.mobilenet_v2.data import splits
from models.mobilenet_v2.network import Network, of
from models.samples import Samples, Splits
from models.training.checkpoints import load, save
from models.training.loop import DEVICE, History, Plan, Rows, device_of, fit, shuffled
from models.training.packages import DATA, DataError

FOLDER = Path(__file__).parent / "versions" / "1"
RUN = DATA.parent / "training" / "mobilenet_v2"
TEMPERATURE = 2.0
"""Of distillation (G. Hinton et al., arXiv:1503.02531)."""
MAX_SHIFT = 1  # pixels of 28; most articles reach from edge to edge


@dataclass(frozen=True, slots=True)
class Stage:
    """Some passes over the images at one size.

    Attributes:
        side: rows and columns; a multiple of 32.
        images: how many, drawn anew for each pass.
        scored: validation images that each pass is scored on.
        taught: whether it learns from the teacher, else from the labels.
    """

    side: int
    images: int
    scored: int
    batch: int
    plan: Plan
    taught: bool = False


SMALL = Stage(64, 55_000, 5000, 64, Plan(epochs=2, rate=1e-3, patience=0))
STAGES = (
    Stage(96, 8000, 1000, 32, Plan(epochs=1, rate=5e-4, patience=0, seed=2)),
    Stage(128, 5000, 1000, 32, Plan(epochs=1, rate=5e-4, patience=0, seed=3)),
    Stage(224, 3000, 500, 32, Plan(epochs=1, rate=4e-4, patience=0, seed=4)),
    Stage(224, 4000, 1000, 32, Plan(epochs=1, rate=4e-4, patience=0, seed=5), taught=True),
    Stage(224, 8000, 1000, 32, Plan(epochs=1, rate=5e-4, patience=0, seed=6), taught=True),
)


class Articles:
    """The task: which article is it, each mirrored by lot and moved by up to MAX_SHIFT pixels.

    Args:
        data: what it learns from, and what it is scored on.
        stage: how.
        teacher: a network that knows the articles at SMALL's size; for a stage that is taught.
    """

    def __init__(self, data: Splits, stage: Stage, teacher: Network) -> None:
        self.stage, self.teacher = stage, teacher.to(DEVICE)
        self.train = _pixels(data.train)
        self.labels = torch.from_numpy(data.train.labels).to(DEVICE)
        self.validation = data.validation[: stage.scored]

    def batches(self, rng: np.random.Generator) -> Sequence[Rows]:
        """As many images as the stage says, by lot."""
        rows = rng.permutation(len(self.train))[: self.stage.images]
        return [rows[batch] for batch in shuffled(len(rows), self.stage.batch, rng)]

    def loss(self, call: Callable[..., Any], rows: Rows, rng: np.random.Generator) -> Tensor:
        """Cross-entropy with the labels; or how far the answers and features are from the teacher's."""
        varied = [_varied(self.train[row], rng) for row in rows]
        features, logits = call(batch(varied, self.stage.side).to(DEVICE))
        if not self.stage.taught:
            return functional.cross_entropy(logits, self.labels[rows])
        with torch.no_grad():
            known, right = self.teacher.training_outputs(batch(varied, SMALL.side).to(DEVICE))
        soft, log = (right / TEMPERATURE).softmax(1), (logits / TEMPERATURE).log_softmax(1)
        loss = TEMPERATURE**2 * functional.kl_div(log, soft, reduction="batchmean")
        if features.shape == known.shape:  # a pruned network has fewer
            loss = loss + functional.mse_loss(features, known) / known.var()
        return loss

    def score(self, network: nn.Module) -> float:
        """Accuracy on validation images, at the stage's size."""
        return accuracy(network, self.validation, self.stage.side)


def batch(pixels: Iterable[NDArray[np.uint8]], side: int) -> Tensor:
    """Images uint8 [28, 28] as the network wants them: float32 [N, side, side, 3]."""
    return torch.from_numpy(np.stack([transform.enlarged(image, side) for image in pixels]))


def accuracy(network: nn.Module, data: Samples, side: int = transform.SIDE, size: int = 100) -> float:
    """The share of images whose most probable class is the right one."""
    hits = 0
    with torch.inference_mode():
        for start in range(0, len(data), size):
            part = data[start : start + size]
            answers = network(batch(_pixels(part), side).to(device_of(network))).argmax(1).cpu().numpy()
            hits += int((answers == part.labels).sum())
    return hits / len(data)


def tune(
    network: nn.Module, data: Splits, stages: Sequence[Stage], folder: Path, teacher: Network
) -> History:
    """Train in place through all stages; each goes on where it was stopped."""
    whole = History()
    network.to(memory_format=torch.channels_last)  # a quarter faster
    for number, stage in enumerate(stages, 1):
        print(f"stage {number}/{len(stages)}: {stage.side} x {stage.side}", flush=True)
        history = fit(network, Articles(data, stage, teacher), stage.plan, folder / f"{number}_{stage.side}")
        whole.best_epoch = len(whole.losses) + history.best_epoch
        for name in ("losses", "scores", "rates", "seconds"):
            getattr(whole, name).extend(getattr(history, name))
    return whole


def initial(data: bytes) -> Network:
    """The network before training: a pretrained backbone and a new dense layer."""
    network = Network()
    missing, unexpected = network.load_state_dict(pretrained.backbone(data), strict=False)
    if unexpected or {name for name in missing if not name.endswith("batches_tracked")} != {
        "dense.weight",
        "dense.bias",
    }:
        raise DataError(f"the backbone does not fit: {missing}, {unexpected}")
    return network


def _pixels(data: Samples) -> NDArray[np.uint8]:
    """uint8 [N, 28, 28], as the gateway reads them."""
    return np.stack([transform.article(payload) for payload in data.payloads])


def _varied(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    top, left = rng.integers(0, 2 * MAX_SHIFT + 1, 2)
    moved = np.pad(image, MAX_SHIFT)[top : top + len(image), left : left + len(image)]
    return np.ascontiguousarray(moved[:, ::-1] if rng.random() < 0.5 else moved)  # noqa: PLR2004 - a coin


def main() -> None:
    """Train, save."""
    parser = argparse.ArgumentParser(prog="python -m models.mobilenet_v2.train")
    parser.add_argument("--official", action="store_true", help="start from Keras' own file")
    parser.add_argument("--out", type=Path, default=FOLDER / "fp32.safetensors", help="where the weights go")
    arguments = parser.parse_args()
    try:
        data = splits()
        network = initial(pretrained.official() if arguments.official else pretrained.package())
    except DataError as error:
        raise SystemExit(str(error)) from error
    small = tune(network, data, [SMALL], RUN / "small", network)
    save(network, FOLDER / "teacher.safetensors", small)
    history = tune(network, data, STAGES, RUN / "fp32", of(load(FOLDER / "teacher.safetensors")))
    print(f"validation accuracy: {history.scores[-1]:.4f}")
    save(network, arguments.out, history)


if __name__ == "__main__":
    main()
