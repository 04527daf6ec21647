"""The network: two rounds of convolution and pooling, then a dense layer with softmax.

    image [N, 28, 28, 1] > conv 32 3x3, ReLU [N, 26, 26, 32] > max 2x2 [N, 13, 13, 32]
                         > conv 32 3x3, ReLU [N, 11, 11, 32] > max 2x2 [N, 5, 5, 32]
                         > dense 10, softmax: probabilities [N, 10]

No padding: 17,578 parameters. Shapes are written channels last, as the contract has the image; torch
computes channels first, so that the dense layer's 800 inputs are in the order channel, row, column.
"""

import torch
from torch import nn

FILTERS = 32
KERNEL = 3
DIGITS = 10
POOLED = 5  # rows, and columns, that are left after both rounds


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Probabilities of the ten digits; arguments and result are model.yaml's inputs and outputs, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, FILTERS, KERNEL)
        self.conv2 = nn.Conv2d(FILTERS, FILTERS, KERNEL)
        self.dense = nn.Linear(FILTERS * POOLED * POOLED, DIGITS)
        self.pool = nn.MaxPool2d(2)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """What softmax turns into probabilities; training wants these. float32 [N, 10]."""
        hidden = image.permute(0, 3, 1, 2)
        hidden = self.pool(torch.relu(self.conv1(hidden)))
        hidden = self.pool(torch.relu(self.conv2(hidden)))
        return self.dense(hidden.flatten(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Answer `image`, float32 [N, 28, 28, 1] in 0..1, with `probabilities`, float32 [N, 10]."""
        return torch.softmax(self.logits(image), dim=1)
