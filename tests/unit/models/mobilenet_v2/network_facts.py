"""Measures the network and its training, prints facts as JSON; run by test_network.py, where torch is."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from models.mobilenet_v2 import compress, export, pretrained, train
from models.mobilenet_v2.network import WIDTHS, Convolution, Network, of
from models.samples import Samples, Splits, read
from models.training.loop import Plan

MODEL = Path(export.__file__).parent
DEPTH = len(WIDTHS)


def small(seed: int = 0) -> Network:
    """A narrow network with statistics as after some training, in evaluation mode."""
    torch.manual_seed(seed)
    network = Network([8] * DEPTH, [8, *[16] * (DEPTH - 2)], 24)
    network.train()
    with torch.inference_mode():
        for _ in range(3):
            network(torch.randn(8, 64, 64, 3))
    network.eval()
    return network


def keras(layout: str) -> bytes:
    """A file of Keras 2 or 3 with a whole MobileNetV2 of zeros and one kernel of each kind that is not."""
    file, network = io.BytesIO(), Network()
    with h5py.File(file, "w") as h5:
        for ours, (layer, norm) in pretrained.layers().items():
            module = network.get_submodule(ours)
            assert isinstance(module, Convolution)
            shape = tuple(module.conv.weight.permute(2, 3, 1, 0).shape)
            if is_depthwise := "depthwise" in layer:
                shape = (*shape[:2], shape[3], 1)
            kernel = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            if layout == "2":
                h5[f"{layer}/{layer}/{'depthwise_' * is_depthwise}kernel:0"] = kernel
            else:
                h5[f"model_weights/mobilenetv2_1.00_224/{layer}/kernel"] = kernel
            for number, name in enumerate(pretrained.NORM):
                values = np.full(shape[2] if is_depthwise else shape[3], number + 1, np.float32)
                h5[f"{norm}/{norm}/{name}:0" if layout == "2" else f"model_weights/m/{norm}/{name}"] = values
        h5["optimizer_weights/adam/Conv1/kernel"] = np.zeros(1)
    return file.getvalue()


def backbones() -> Any:
    """Is the same read of both layouts, and do kernels land where they belong?"""
    two, three = (pretrained.backbone(keras(layout)) for layout in "23")
    kernel = np.arange(16 * 96, dtype=np.float32).reshape(1, 1, 16, 96)
    depthwise = np.arange(9 * 96, dtype=np.float32).reshape(3, 3, 96, 1)
    return {
        "same": all(torch.equal(two[name], three[name]) for name in two) and set(two) == set(three),
        "expand": bool((two["blocks.1.expand.conv.weight"][7, 5, 0, 0] == kernel[0, 0, 5, 7]).all()),
        "depthwise": bool((two["blocks.1.depthwise.conv.weight"][7, 0, 2, 1] == depthwise[2, 1, 7, 0]).all()),
        "variance": two["blocks.1.depthwise.norm.running_var"][0].item(),
        "missing": sorted(set(Network().state_dict()) - set(two) - {"dense.weight", "dense.bias"})[:1],
    }


def fold(folder: Path) -> Any:
    """How far a layer with its norm in the kernel is from the layer and its norm."""
    network, x = small(), torch.randn(2, 8, 9, 9)
    save_file(network.state_dict(), folder / "w.safetensors")
    layers = export.folded(folder / "w.safetensors")
    differences = {}
    for name in ("blocks.3.expand", "blocks.3.depthwise", "blocks.2.project"):
        layer = network.get_submodule(name)
        assert isinstance(layer, Convolution)
        kernel, bias = (torch.from_numpy(value.copy()) for value in layers[name])
        is_depthwise = name.endswith("depthwise")
        kernel = kernel.permute(2, 3, 0, 1) if is_depthwise else kernel.permute(3, 2, 0, 1)
        inputs = x.repeat(1, 2, 1, 1)[:, : layer.conv.in_channels]
        padded = functional.pad(inputs, (0, 1, 0, 1)) if layer.pad else inputs
        ours = functional.conv2d(
            padded, kernel, bias, layer.conv.stride, layer.conv.padding, 1, layer.conv.groups
        )
        with torch.inference_mode():
            theirs = layer(inputs)
        differences[name] = float((theirs - (ours if layer.linear else functional.relu6(ours))).abs().max())
    return differences


def rows() -> Any:
    """How far a row's answer alone is from its answer beside extreme neighbours."""
    network, images = small(), torch.randn(4, 224, 224, 3).clamp(-1, 1)
    images[2:] = 1
    with torch.inference_mode():
        together, alone = network(images), network(images[:1])
        again = of(network.state_dict())(images)
    return {
        "shape": list(together.shape),
        "sums": together.sum(1).tolist(),
        "apart": float((together[:1] - alone).abs().max()),
        "loaded": float((together - again).abs().max()),
    }


def some(count: int) -> Splits:
    """Training images of the calibration set in all three splits."""
    found = read(MODEL / "calibration.zip")
    part = Samples(found.payloads[:count], found.labels[:count])
    return Splits(part, part, part)


def training(folder: Path) -> Any:
    """Losses of a short training by labels, then of one by a teacher of like and of unlike width."""
    stage = train.Stage(64, 128, 32, 16, Plan(epochs=4, rate=5e-3, patience=0))
    taught = train.Stage(32, 128, 32, 16, Plan(epochs=3, rate=3e-3, patience=0), taught=True)
    torch.manual_seed(0)
    network = Network([16] * DEPTH, [16, *[48] * (DEPTH - 2)], 24)
    by_labels = train.tune(network, some(128), [stage, stage], folder / "labels", network)
    found = {"labels": by_labels.losses, "epochs": len(by_labels.scores), "best": by_labels.best_epoch}
    for width in (24, 16):
        torch.manual_seed(1)
        student = Network([8] * DEPTH, [8, *[16] * (DEPTH - 2)], width)
        history = train.tune(student, some(128), [taught], folder / f"taught_{width}", network)
        found[f"taught_{width}"] = history.losses
    return found


def pruning() -> Any:
    """Widths of a network of which half was pruned, and whether its checkpoint is the same network."""
    torch.manual_seed(0)
    # pruning makes the stem as wide as what the first block projects: still nothing is added there
    network = Network([16, 8, *[16] * (DEPTH - 2)], [16, *[32] * (DEPTH - 2)], 32).eval()
    compress.pruned(network, some(16), keep=0.5)
    with torch.inference_mode():
        images = torch.randn(2, 64, 64, 3)
        apart = float((network(images) - of(network.state_dict())(images)).abs().max())
    block = network.blocks[3]
    return {
        "inner": block.depthwise.conv.out_channels,
        "between": block.project.conv.out_channels,
        "apart": apart,
    }


def main() -> None:
    """Print the facts of one case."""
    case, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    cases = {
        "backbones": backbones,
        "fold": lambda: fold(folder),
        "rows": rows,
        "training": lambda: training(folder),
        "pruning": pruning,
    }
    json.dump(cases[case](), sys.stdout)


if __name__ == "__main__":
    main()
