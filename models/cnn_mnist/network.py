"""The network: two rounds of convolution and pooling, then two dense layers and softmax.

    image [N, 28, 28, 1] > conv 32 3x3, ReLU [N, 28, 28, 32] > max 2x2 [N, 14, 14, 32]
                         > conv 64 3x3, ReLU [N, 14, 14, 64] > max 2x2 [N, 7, 7, 64]
                         > dense 128, ReLU > dense 10, softmax: probabilities [N, 10]

Borders are padded with zeros: 421,642 parameters. Pruned, it has fewer filters and hidden units, and is
otherwise the same. Shapes are written channels last, as the contract has the image; torch computes channels
first, so that the dense layer's inputs are in the order channel, row, column.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

FILTERS = (32, 64)
HIDDEN = 128
DIGITS = 10
SIDE = 28
POOLED = SIDE // 4  # rows, and columns, that are left after both rounds


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Probabilities of the ten digits; arguments and result are model.yaml's inputs and outputs, in order.

    Args:
        filters: of each convolution.
        hidden: units between the dense layers.
    """

    def __init__(self, filters: tuple[int, int] = FILTERS, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, filters[0], 3, padding=1)
        self.conv2 = nn.Conv2d(filters[0], filters[1], 3, padding=1)
        self.dense1 = nn.Linear(filters[1] * POOLED * POOLED, hidden)
        self.dense2 = nn.Linear(hidden, DIGITS)
        self.pool = nn.MaxPool2d(2)

    def logits(self, image: Tensor) -> Tensor:
        """What softmax turns into probabilities; training wants these. float32 [N, 10]."""
        hidden = image.reshape(-1, 1, SIDE, SIDE)  # one channel: first or last, the bytes are the same
        hidden = self.pool(torch.relu(self.conv1(hidden)))
        hidden = self.pool(torch.relu(self.conv2(hidden)))
        return self.dense2(torch.relu(self.dense1(hidden.flatten(1))))

    def forward(self, image: Tensor) -> Tensor:
        """Answer `image`, float32 [N, 28, 28, 1] in 0..1, with `probabilities`, float32 [N, 10]."""
        return torch.softmax(self.logits(image), dim=1)


def of(weights: Mapping[str, Tensor]) -> Network:
    """The network of a checkpoint, pruned or not, in evaluation mode."""
    filters = (len(weights["conv1.bias"]), len(weights["conv2.bias"]))
    network = Network(filters, len(weights["dense1.bias"]))
    network.load_state_dict(weights)
    network.eval()
    return network
