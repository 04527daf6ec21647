"""Biases that make up for what rounding the weights does to a layer's mean output.

A depthwise convolution has few weights a channel, whose rounding errors do not cancel: its output moves as a
whole, and so does that of every layer after it. M. Nagel et al., Data-Free Quantization Through Weight
Equalization and Bias Correction, arXiv:1906.04721, section 4.2; here with samples, as in its appendix D.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = {True: 127, False: 64}
"""The largest integer of a weight: for TensorRT, and for CPUs."""
LAYERS = (nn.Conv2d, nn.Linear)


def correct(
    network: nn.Module, inputs: Tensor, *, tensorrt: bool = False, ignored: Sequence[nn.Module] = ()
) -> None:
    """Change the biases of all convolutions and linear layers in place; the weights stay as they are.

    In one pass the layers are mended in the order in which they run, so that each sees what the mended ones
    before it give.

    Args:
        network: in evaluation mode; each layer has a bias and runs once.
        inputs: what it is called with: 32 to 100 training samples.
        tensorrt: as for `quantize.static`: weights will have 8 bits, and not 7.
        ignored: layers of `network` that stay in float.
    """
    means: dict[str, Tensor] = {}
    rounded = copy.deepcopy(network)
    layers = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, LAYERS) and not any(layer is each for each in ignored)
    ]

    def remember(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            means[name] = _mean(output)

        return hook

    def mend(name: str) -> Callable[..., Tensor]:
        def hook(layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            moved = _mean(output) - means[name]
            layer.bias -= moved
            return output - moved.view(-1, *[1] * (output.dim() - 2))

        return hook

    with torch.inference_mode():
        _call(network, layers, inputs, remember)
        for name in layers:
            weight = rounded.get_submodule(name).weight
            weight.copy_(rounded_weight(weight, LARGEST[tensorrt]))
        _call(rounded, layers, inputs, mend)
        for name in layers:
            network.get_submodule(name).bias.copy_(rounded.get_submodule(name).bias)


def rounded_weight(weight: Tensor, largest: int) -> Tensor:
    """The nearest values that integers up to `largest` can hold, with one scale for each output channel."""
    extreme = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True)
    scale = (extreme / largest).clamp(min=torch.finfo(weight.dtype).tiny)
    rounded: Tensor = (weight / scale).round() * scale
    return rounded


def _call(
    network: nn.Module, layers: Sequence[str], inputs: Tensor, hook: Callable[[str], Callable[..., Any]]
) -> None:
    """Run it once, with a hook on each of the layers."""
    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    network(inputs)
    for handle in handles:
        handle.remove()


def _mean(output: Tensor) -> Tensor:
    """Of each channel: of float32 [N, C, ...] to [C]."""
    return output.mean((0, *range(2, output.dim())))
