"""Prunes small networks and prints what became of them as JSON; run by test_channels.py, where torch is."""

import json
import sys

import torch
from torch import Tensor, nn

from models.compression import channels


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """[N, 8, 8, 1] > two convolutions > dense 5."""

    def __init__(self, second: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3)
        self.norm = nn.BatchNorm2d(32)
        self.second = nn.Conv2d(32, second, 3)
        self.dense = nn.Linear(second * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """The answers of a batch."""
        hidden = torch.relu(self.norm(self.first(x.reshape(-1, 1, 8, 8))))
        return self.dense(torch.relu(self.second(hidden)).flatten(1))


def pruned(network: nn.Module, keep: float) -> nn.Module:
    """The network after pruning by a loss over a few random items."""
    images, wanted = torch.randn(16, 8, 8, 1), torch.randn(16, 5)
    channels.prune(
        network,
        images[:1],
        keep=keep,
        loss=lambda it: (it(images) - wanted).square().mean(),
        ignored=[network.dense],
    )
    return network


def with_idle_half() -> tuple[Network, list[int]]:
    """A network in which half of each layer changes no answer, and the first layer's other half."""
    network = Network().eval()
    useful = torch.randperm(32)[:16].sort().values
    idle = [channel for channel in range(32) if channel not in useful]
    with torch.no_grad():
        network.second.weight[:, idle] = 0
        network.dense.weight.reshape(5, 16, 16)[:, ::2] = 0
    return network, useful.tolist()


def main() -> None:
    """Print the facts."""
    torch.manual_seed(1)
    network, useful = with_idle_half()
    images = torch.randn(8, 8, 8, 1)
    before, kept = network(images), network.first.weight[useful]
    pruned(network, keep=0.5)
    facts = {
        "shapes": {name: list(value.shape) for name, value in network.state_dict().items()},
        "difference": (network(images) - before).abs().max().item(),
        "kept_the_useful": torch.equal(network.first.weight, kept),
        "gradients_left": sum(value.grad is not None for value in network.parameters()),
        "of_three_quarters": pruned(Network().eval(), keep=0.75).first.out_channels,
        "of_two_thirds": pruned(Network(24).eval(), keep=0.67).second.out_channels,
        "of_too_few": pruned(Network(8).eval(), keep=0.5).second.out_channels,
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
