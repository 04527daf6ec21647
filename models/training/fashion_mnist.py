"""Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747): pictures of clothing.

It comes from the Debian package `dataset-fashion-mnist` (MIT), which carries the four original IDX files;
each is pinned by its hash. Where the package is installed its files are read; else it is fetched with
`apt-get download` (31 MB) and read without being installed.
"""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.training.mnist import parse_idx
from models.training.packages import DATA, DataError

PACKAGE = "dataset-fashion-mnist"
FOLDER = Path("/usr/share/datasets/fashion-mnist")
SHA256 = {
    "train-images-idx3": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}


@dataclass(frozen=True, slots=True)
class Split:
    """Images (uint8 [N, 28, 28], light on black) and the index of each one's class (uint8 [N], 0..9)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def load(installed: Path = FOLDER, folder: Path = DATA) -> tuple[Split, Split]:
    """The 60,000 training images and the 10,000 test images.

    Args:
        installed: where Debian installs the four files.
        folder: where the package is kept that is fetched when they are not there.

    Raises:
        DataError: it cannot be had, or a file's hash differs.
    """
    archives = {name: _archive(name, installed, folder) for name in SHA256}
    for name, content in archives.items():
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise DataError(f"{name}-ubyte.gz of {PACKAGE} is not the pinned one")
    arrays = {name: parse_idx(gzip.decompress(content)) for name, content in archives.items()}
    return (
        Split(arrays["train-images-idx3"], arrays["train-labels-idx1"]),
        Split(arrays["t10k-images-idx3"], arrays["t10k-labels-idx1"]),
    )


def _archive(name: str, installed: Path, folder: Path) -> bytes:
    """One of the four files, still compressed."""
    path = installed / f"{name}-ubyte.gz"
    if path.exists():
        return path.read_bytes()
    command = ["dpkg-deb", "--fsys-tarfile", str(_fetched(folder))]
    with tarfile.open(fileobj=io.BytesIO(_run(command, folder))) as package:
        member = package.extractfile(f".{FOLDER}/{name}-ubyte.gz")
        if member is None:
            raise DataError(f"{PACKAGE} has no {name}-ubyte.gz")
        return member.read()


def _fetched(folder: Path) -> Path:
    """The package, fetched when it is not there."""
    if not (found := sorted(folder.glob(f"{PACKAGE}_*.deb"))):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"fetching {PACKAGE} ...", file=sys.stderr, flush=True)
        _run(["apt-get", "download", "-qq", PACKAGE], folder)
        found = sorted(folder.glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise DataError(f"`apt-get download {PACKAGE}` left no package in {folder}")
    return found[-1]


def _run(command: list[str], folder: Path) -> bytes:
    try:
        return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout
    except FileNotFoundError as error:
        raise DataError(f"no {command[0]}: install {PACKAGE}, or put its .deb into {folder}") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"`{' '.join(command)}` failed: {error.stderr.decode().strip()}") from error
