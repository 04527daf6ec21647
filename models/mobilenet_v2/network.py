"""MobileNetV2 (M. Sandler et al., arXiv:1801.04381) with Keras' names and paddings, and a dense head of ten.

    image [N, 224, 224, 3] in -1..1
    stem 3x3 / 2, norm, ReLU6                                  [N, 112, 112, 32]
    17 inverted residuals: expand 1x1, norm, ReLU6             ... 6 times as wide; the first one has none
                           depthwise 3x3 (/ 2), norm, ReLU6
                           project 1x1, norm, + input          the sum where size and width stay
    top 1x1, norm, ReLU6                                       [N, 7, 7, 1280]
    mean over rows and columns, dense, softmax                 probabilities [N, 10]

The widths are read from a checkpoint's shapes, so that a pruned checkpoint needs no configuration beside it.
Where the stride is 2, zeros are added below and to the right only, as Keras does (TensorFlow's `SAME`).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.mobilenet_v2.sizes import ADDS, EPSILON, STRIDES

LABELS = 10
MOMENTUM = 0.03
"""Of batch normalization; Keras' 0.01 (its 0.99) is too slow for passes of a few hundred steps."""
WIDTHS = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
"""Channels after the stem and after each inverted residual, unpruned."""
EXPANSION, TOP = 6, 1280


class Convolution(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Convolution without bias, batch normalization, and ReLU6 unless it is `linear`.

    Args:
        channels: in and out; equal for a depthwise one.
        size: rows and columns of the kernel.
        stride: 1 or 2.
        depthwise: each channel has a kernel of its own.
        linear: no ReLU6.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        size: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        groups = channels[0] if depthwise else 1
        padding = size // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(*channels, size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels[1], EPSILON, MOMENTUM)
        self.linear = linear
        self.pad = stride > 1

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, in, H, W] to [N, out, H / stride, W / stride]."""
        if self.pad:
            x = functional.pad(x, (0, 1, 0, 1))
        normed: Tensor = self.norm(self.conv(x))
        return normed if self.linear else functional.relu6(normed)


class Residual(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """An inverted residual.

    Args:
        channels: in and out.
        inner: channels of the depthwise convolution.
        stride: of the depthwise convolution.
        expands: whether there is a convolution before it.
        adds: whether the input is added; pruning may make other blocks' widths equal too.
    """

    def __init__(
        self, channels: tuple[int, int], inner: int, stride: int, *, expands: bool, adds: bool
    ) -> None:
        super().__init__()
        self.expand = Convolution((channels[0], inner)) if expands else nn.Identity()
        self.depthwise = Convolution((inner, inner), 3, stride, depthwise=True)
        self.project = Convolution((inner, channels[1]), linear=True)
        self.adds = adds

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, in, H, W] to [N, out, H / stride, W / stride]."""
        projected: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + projected if self.adds else projected


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Probabilities of the ten labels; arguments and result are model.yaml's inputs and outputs, in order.

    Args:
        widths: as WIDTHS.
        inner: channels of each depthwise convolution; the first is that of the stem.
        top: channels before the dense layer.
    """

    def __init__(
        self, widths: Sequence[int] = WIDTHS, inner: Sequence[int] | None = None, top: int = TOP
    ) -> None:
        super().__init__()
        inner = inner or [widths[0], *(EXPANSION * width for width in widths[1:-1])]
        self.stem = Convolution((3, widths[0]), 3, 2)
        self.blocks = nn.ModuleList(
            Residual(channels, inside, stride, expands=index > 0, adds=index in ADDS)
            for index, (channels, inside, stride) in enumerate(
                zip(pairwise(widths), inner, STRIDES, strict=True)
            )
        )
        self.top = Convolution((widths[-1], top))
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(top, LABELS)

    def logits(self, image: Tensor) -> Tensor:
        """What softmax turns into probabilities: float32 [N, H, W, 3] (both multiples of 32) to [N, 10]."""
        return self.training_outputs(image)[1]

    def training_outputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the dense layer sees, float32 [N, top], and the logits."""
        x = self.stem(image.permute(0, 3, 1, 2))
        for block in self.blocks:
            x = block(x)
        features = self.top(x).mean((2, 3))
        return features, self.dense(self.dropout(features))

    def forward(self, image: Tensor) -> Tensor:
        """Answer `image`, float32 [N, 224, 224, 3] in -1..1, with `probabilities`, float32 [N, 10]."""
        return torch.softmax(self.logits(image), dim=1)


def of(weights: Mapping[str, Tensor]) -> Network:
    """The network of a checkpoint, in evaluation mode and float32; its widths are those of the tensors.

    Raises:
        KeyError: a layer is missing.
        RuntimeError: shapes that do not fit one another.
    """
    names = [f"blocks.{index}" for index in range(len(STRIDES))]
    widths = [len(weights["stem.conv.weight"]), *(len(weights[f"{n}.project.conv.weight"]) for n in names)]
    inner = [len(weights[f"{name}.depthwise.conv.weight"]) for name in names]
    network = Network(widths, inner, len(weights["top.conv.weight"]))
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    network.eval()
    return network
