"""Structured pruning of a transformer's encoder: attention heads and feed-forward neurons.

How much a head or neuron matters is read off its gate, a factor of one on its output: the loss's gradient
with respect to the gate, without its sign, averaged over training batches. For heads this is the measure of
P. Michel et al., "Are Sixteen Heads Really Better than One?" (arXiv:1905.10650); for neurons it is the
first-order Taylor importance of P. Molchanov et al. (arXiv:1611.06440). As there, each layer's importances
are divided by their norm, so that layers compare; the weakest of the whole network go first, and each layer
keeps a least number.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Kept = NDArray[np.int64]
OUTLIER = 6.0
"""From which size on an activation is an outlier: the threshold of LLM.int8()."""


@dataclass(frozen=True, slots=True)
class Importance:
    """What each layer's heads [heads] and neurons [neurons] matter; float64, 0 and more."""

    heads: list[NDArray[np.float64]]
    neurons: list[NDArray[np.float64]]


def importance(layers: Sequence[nn.Module], losses: Iterable[Callable[[], Tensor]], head: int) -> Importance:
    """Measure by hooks; the network is left as it was.

    Args:
        layers: each has `join` and `down`, linear layers that take the heads' outputs [..., heads x head]
        and the
            neurons' [..., neurons].
        losses: each computes the loss of one batch, with gradients.
        head: a head's width.
    """
    sizes = [
        (layer.get_submodule("join").in_features, layer.get_submodule("down").in_features) for layer in layers
    ]
    where = next(layers[0].parameters()).device
    gates = [tuple(torch.ones(n, device=where, requires_grad=True) for n in (a // head, b)) for a, b in sizes]
    handles = []
    for layer, (heads, neurons) in zip(layers, gates, strict=True):
        handles.append(layer.get_submodule("join").register_forward_pre_hook(_times(heads, head)))
        handles.append(layer.get_submodule("down").register_forward_pre_hook(_times(neurons, 1)))
    sums = [(np.zeros(len(heads)), np.zeros(len(neurons))) for heads, neurons in gates]
    flat = [gate for pair in gates for gate in pair]
    try:
        for loss in losses:
            gradients = torch.autograd.grad(loss(), flat)
            for total, gradient in zip([each for pair in sums for each in pair], gradients, strict=True):
                np.add(total, gradient.abs().double().cpu().numpy(), out=total)
    finally:
        for handle in handles:
            handle.remove()
    return Importance([heads for heads, _ in sums], [neurons for _, neurons in sums])


def strongest(
    scores: Sequence[NDArray[np.float64]], *, keep: float, least: int, multiple: int = 1
) -> list[Kept]:
    """Which units of each layer stay, in ascending order.

    Args:
        scores: each layer's importances.
        keep: the share that stays of all layers together, 0 to 1.
        least: what every layer keeps.
        multiple: each layer's number is rounded to a multiple of it.
    """
    normed = [layer / max(float(np.linalg.norm(layer)), 1e-12) for layer in scores]
    everything = np.sort(np.concatenate(normed))[::-1]
    bound = everything[min(len(everything), max(1, round(keep * len(everything)))) - 1]
    kept = []
    for layer in normed:
        count = max(least, multiple * round(int((layer >= bound).sum()) / multiple))
        kept.append(np.sort(np.argsort(layer)[::-1][: min(count, len(layer))]))
    return kept


def without(
    state: Mapping[str, Tensor], heads: Sequence[Kept], neurons: Sequence[Kept], head: int
) -> dict[str, Tensor]:
    """A checkpoint with the units that stay, under the same names.

    Args:
        state: `layers.<i>.{query,key,value,up}` lose rows, `layers.<i>.{join,down}` columns.
        heads: each layer's heads that stay.
        neurons: each layer's neurons that stay.
        head: a head's width.
    """
    pruned = dict(state)
    for i, (some_heads, some_neurons) in enumerate(zip(heads, neurons, strict=True)):
        rows = torch.from_numpy((some_heads[:, None] * head + np.arange(head)).reshape(-1))
        cells = torch.from_numpy(some_neurons)
        for name, kept in (("query", rows), ("key", rows), ("value", rows), ("up", cells)):
            for part in ("weight", "bias"):
                pruned[f"layers.{i}.{name}.{part}"] = state[f"layers.{i}.{name}.{part}"][kept]
        pruned[f"layers.{i}.join.weight"] = state[f"layers.{i}.join.weight"][:, rows]
        pruned[f"layers.{i}.down.weight"] = state[f"layers.{i}.down.weight"][:, cells]
    return {name: value.clone() for name, value in pruned.items()}


class SplitDown(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """A feed-forward layer's last part in two: most neurons, and the few that stay in float.

    Args:
        down: the linear layer, [hidden, neurons]; what it computes stays the same.
        outliers: the neurons apart.
    """

    def __init__(self, down: nn.Linear, outliers: Kept) -> None:
        super().__init__()
        others = np.setdiff1d(np.arange(down.in_features), outliers)
        self.main = nn.Linear(len(others), down.out_features)
        self.outliers = nn.Linear(len(outliers), down.out_features, bias=False)
        self.register_buffer("places", torch.from_numpy(others), persistent=False)
        self.register_buffer("apart", torch.from_numpy(outliers), persistent=False)
        with torch.no_grad():
            self.main.weight.copy_(down.weight[:, self.places])
            self.main.bias.copy_(down.bias)
            self.outliers.weight.copy_(down.weight[:, self.apart])

    def forward(self, inner: Tensor) -> Tensor:
        """Float32 [..., neurons] to [..., hidden]."""
        whole: Tensor = self.main(inner[..., self.places]) + self.outliers(inner[..., self.apart])
        return whole


def split_outliers(layers: Sequence[nn.Module], run: Callable[[], None]) -> list[str]:
    """Set the neurons apart, in place, whose activations would spoil their layer's int8 range.

    A language model has a few: one value far above all others, at one token of each text. In a range that
    holds it the rest have two or three bits left. As in T. Dettmers et al., "LLM.int8()" (arXiv:2208.07339),
    what reaches OUTLIER stays in float; that is one column of a product or two.

    Args:
        layers: each has `down`, a linear layer that takes the neurons' activations.
        run: runs the network on calibration data.

    Returns:
        The names of the parts that must stay in float: `layers.<i>/down/outliers`, for each layer that has
        such neurons.
    """
    largest = [torch.zeros(layer.get_submodule("down").in_features) for layer in layers]
    handles = [
        layer.get_submodule("down").register_forward_pre_hook(_watch(seen))
        for layer, seen in zip(layers, largest, strict=True)
    ]
    try:
        with torch.inference_mode():
            run()
    finally:
        for handle in handles:
            handle.remove()
    names = []
    for number, (layer, seen) in enumerate(zip(layers, largest, strict=True)):
        outliers = np.flatnonzero(seen.numpy() >= OUTLIER)
        if len(outliers):
            layer.down = SplitDown(layer.get_submodule("down"), outliers)
            names.append(f"layers.{number}/down/outliers")
    return names


def _watch(seen: Tensor) -> Callable[[nn.Module, tuple[Tensor]], None]:
    def hook(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        torch.maximum(seen, inputs[0].abs().flatten(0, -2).amax(0), out=seen)

    return hook


def _times(gate: Tensor, width: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    def hook(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * gate.repeat_interleave(width),)

    return hook
