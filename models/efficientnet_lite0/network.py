"""EfficientNet-Lite0: M. Tan and Q. V. Le, arXiv:1905.11946, without squeeze-and-excitation and with ReLU6.

https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite

    image [N, 224, 224, 3], (pixel - 127) / 128
    stem 3x3 / 2, ReLU6                                        [N, 112, 112, 32]
    16 inverted residuals: expand 1x1, ReLU6                   ... 6 times as wide; the first one has none
                           depthwise 3x3 or 5x5 (/ 2), ReLU6
                           project 1x1, + input                the sum where sizes allow it
    head 1x1, ReLU6                                            [N, 7, 7, 1280]
    mean over rows and columns, dense, softmax                 probabilities [N, 1000]

The weights were trained elsewhere, and batch normalization was folded into the convolutions when they were
imported: there is none here. The widths are read from the checkpoint's shapes.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from models.efficientnet_lite0.architecture import STRIDES


class Convolution(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Convolution with TensorFlow's `SAME` padding: what is odd of it comes below and to the right.

    Args:
        weight: the kernel, [out, in / groups, size, size]; only its shape counts.
        stride: 1, or 2 of an even number of rows and columns.
        depthwise: each channel has a kernel of its own.
    """

    def __init__(self, weight: Tensor, stride: int = 1, *, depthwise: bool = False) -> None:
        super().__init__()
        filters, channels, size = weight.shape[:3]
        groups = filters if depthwise else 1
        padding, odd = divmod(size - stride, 2)
        self.odd = odd > 0
        self.conv = nn.Conv2d(channels * groups, filters, size, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, in, H, W] to [N, out, H / stride, W / stride]."""
        convolved: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)) if self.odd else x)
        return convolved


class Residual(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """An inverted residual (M. Sandler et al., arXiv:1801.04381).

    Args:
        weights: its part of the checkpoint; only the shapes count.
        stride: of the depthwise convolution.
    """

    def __init__(self, weights: Mapping[str, Tensor], stride: int) -> None:
        super().__init__()
        expand = weights.get("expand.conv.weight")
        project = weights["project.conv.weight"]
        self.expand = None if expand is None else Convolution(expand)
        self.depthwise = Convolution(weights["depthwise.conv.weight"], stride, depthwise=True)
        self.project = Convolution(project)
        entering = project.shape[1] if expand is None else expand.shape[1]
        self.adds = stride == 1 and entering == project.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, in, H, W] to [N, out, H / stride, W / stride]."""
        inner = x if self.expand is None else functional.relu6(self.expand(x))
        inner = self.project(functional.relu6(self.depthwise(inner)))
        return x + inner if self.adds else inner


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Probabilities of the 1,000 classes.

    Args:
        weights: a checkpoint; only the shapes count.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = Convolution(weights["stem.conv.weight"], 2)
        self.blocks = nn.ModuleList(
            Residual(part(weights, f"blocks.{i}."), stride) for i, stride in enumerate(STRIDES)
        )
        self.head = Convolution(weights["head.conv.weight"])
        self.classify = nn.Linear(*reversed(weights["classify.weight"].shape))

    def logits(self, image: Tensor) -> Tensor:
        """Float32 [N, 224, 224, 3] to [N, 1000]."""
        x = functional.relu6(self.stem(image.permute(0, 3, 1, 2)))
        for block in self.blocks:
            x = block(x)
        x = functional.relu6(self.head(x))
        scores: Tensor = self.classify(x.mean((2, 3)))
        return scores

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities, float32 [N, 1000]."""
        return self.logits(image).softmax(1)


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names start so, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def of(weights: Mapping[str, Tensor]) -> Network:
    """The network that a checkpoint fits, with its weights, in evaluation mode."""
    network = Network(weights)
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    network.eval()
    return network
