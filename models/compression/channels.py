"""Structured pruning: whole channels go, so that every engine computes less, without any sparse kernel.

What belongs together (a filter, its bias and norm, the next layer's inputs) is found by Torch-Pruning's
dependency graph (G. Fang et al., "DepGraph", arXiv:2301.12900). Which channels go is decided by the
first-order Taylor importance, an estimate of how much the loss grows without them (P. Molchanov et al.,
"Importance Estimation for Neural Network Pruning", CVPR 2019, arXiv:1906.10771).
"""

from collections.abc import Callable, Sequence

import torch_pruning
from torch import Tensor, nn


def prune(
    network: nn.Module,
    example: Tensor,
    *,
    keep: float,
    loss: Callable[[nn.Module], Tensor],
    ignored: Sequence[nn.Module],
    multiple: int = 8,
) -> None:
    """Remove the least important channels of every layer, in place; what is left wants fine-tuning.

    Args:
        network: in evaluation mode; its forward takes `example`.
        example: one input tensor, any batch size; the graph is traced with it.
        keep: the share of channels that each layer keeps, 0 to 1.
        loss: the loss over some training data, a scalar, with gradients.
        ignored: layers whose outputs must stay, the last one above all.
        multiple: the number of channels that a layer keeps is a multiple of this, as int8 kernels like it;
            rounded down, but a layer that would keep none so keeps all.
    """
    network.zero_grad()
    loss(network).backward()
    pruner = torch_pruning.pruner.BasePruner(
        network,
        example,
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=1 - keep,
        ignored_layers=list(ignored),
        round_to=multiple,
    )
    pruner.step()
    network.zero_grad()
