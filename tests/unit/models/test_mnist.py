"""The reader of MNIST's files."""

import struct
from pathlib import Path

import numpy as np
import pytest

from models.training import mnist
from models.training.packages import DataError


def idx(*shape: int, kind: int = 8) -> bytes:
    head = bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return head + bytes(range(int(np.prod(shape))))


def test_an_idx_file_is_read_row_by_row() -> None:
    images = mnist.parse_idx(idx(2, 3, 4))
    assert images.shape == (2, 3, 4)
    assert images[1, 0, 1] == 13


@pytest.mark.parametrize("data", [idx(2, 3)[:-1], idx(2, 3) + b"\0", idx(2, 3, kind=13), b"", b"\0\0\x08"])
def test_a_file_that_is_not_such_an_idx_file_is_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        mnist.parse_idx(data)


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / mnist.PACKAGE.file).write_bytes(b"something else")
    with pytest.raises(DataError, match="not the pinned"):
        mnist.load(tmp_path)
