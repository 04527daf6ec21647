"""Measures the network, prints facts as JSON; run by test_network.py, where torch is."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.compression import bias
from models.efficientnet_lite0 import import_weights, transform
from models.efficientnet_lite0.architecture import STRIDES
from models.efficientnet_lite0.network import Convolution, of
from models.training import checkpoints

MODEL = Path(transform.__file__).parent
WEIGHTS = MODEL / "versions" / "1" / "fp32.safetensors"


def answers() -> dict[str, list[str]]:
    """The five labels of each photo, as fp32 says."""
    network = of(checkpoints.load(WEIGHTS))
    found = {}
    for name in ("cat", "espresso", "daisy"):
        payload = (MODEL / "photos" / f"{name}.jpg").read_bytes()
        image = torch.from_numpy(transform.to_inputs(payload)["image"])[None]
        with torch.inference_mode():
            found[name] = list(transform.to_answer({"probabilities": network(image)[0].numpy()}))
    return found


def padding() -> float:
    """How far a strided convolution is from TensorFlow's `SAME`, computed by hand, at a corner."""
    layer = Convolution(torch.ones(1, 1, 5, 5), 2).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(1)
        layer.conv.bias.zero_()
        last = layer(torch.ones(1, 1, 8, 8))[0, 0]
    # of 3 zeros in all, 1 lies before: the first window has 4 of 5 rows, the last 3
    return float(abs(last[0, 0] - 16) + abs(last[-1, -1] - 9))


def folding() -> float:
    """The largest difference between a convolution with its batch normalization, and the folded one."""
    torch.manual_seed(0)
    theirs = {"_fc.weight": torch.zeros(1, 1), "_fc.bias": torch.zeros(1)}
    for convolution, norm in import_weights.convolutions().values():
        theirs[f"{convolution}.weight"] = torch.randn(4, 3, 1, 1)
        theirs |= {f"{norm}.{kind}": torch.randn(4) for kind in ("weight", "bias", "running_mean")}
        theirs[f"{norm}.running_var"] = torch.rand(4) + 0.1
    ours = import_weights.folded(theirs)
    name = f"blocks.{len(STRIDES) - 1}.project"
    convolution, norm = import_weights.convolutions()[name]
    image = torch.randn(2, 3, 5, 5)
    wanted = torch.nn.functional.batch_norm(
        torch.conv2d(image, theirs[f"{convolution}.weight"]),
        *(theirs[f"{norm}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")),
        eps=import_weights.EPSILON,
    )
    got = torch.conv2d(image, ours[f"{name}.conv.weight"], ours[f"{name}.conv.bias"])
    return float((got - wanted).abs().max())


def correction() -> dict[str, float]:
    """How far rounded weights move a small network's mean answers, without and with corrected biases."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 5)]
    network, images = nn.Sequential(*layers).eval(), torch.rand(64, 3, 8, 8)
    weights = [layer.weight.clone() for layer in network if isinstance(layer, bias.LAYERS)]
    with torch.no_grad():
        wanted = network(images).mean(0)
        before = rounded(network)(images).mean(0) - wanted
        bias.correct(network, images)
        after = rounded(network)(images).mean(0) - wanted
    kept = [layer.weight for layer in network if isinstance(layer, bias.LAYERS)]
    return {
        "before": float(before.abs().mean()),
        "after": float(after.abs().mean()),
        "weights": max(float((a - b).abs().max()) for a, b in zip(weights, kept, strict=True)),
    }


def rounded(network: nn.Module) -> nn.Module:
    """A copy with weights of 7 bits."""
    changed = copy.deepcopy(network)
    for layer in changed.modules():
        if isinstance(layer, bias.LAYERS):
            layer.weight.copy_(bias.rounded_weight(layer.weight, bias.LARGEST[False]))
    return changed


def main() -> None:
    """Print the facts."""
    facts: dict[str, Any] = {
        "answers": answers(),
        "padding": padding(),
        "folding": folding(),
        "correction": correction(),
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
