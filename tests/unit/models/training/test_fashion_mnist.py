"""Reading Fashion-MNIST out of Debian's package."""

import gzip
import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.training import fashion_mnist
from models.training.packages import DataError


def idx(array: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as Debian installs it, of three training images and two test images, and its hashes."""
    folder = tmp_path / "installed"
    folder.mkdir()
    hashes = {}
    for name in fashion_mnist.SHA256:
        count = 3 if name.startswith("train") else 2
        shape = (count, 28, 28) if "images" in name else (count,)
        content = idx(np.full(shape, count, np.uint8))
        (folder / f"{name}-ubyte.gz").write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(fashion_mnist, "SHA256", hashes)
    return folder


def test_both_splits_are_read_from_the_installed_files(installed: Path, tmp_path: Path) -> None:
    train, test = fashion_mnist.load(installed, tmp_path)
    assert train.images.shape == (3, 28, 28)
    assert test.labels.tolist() == [2, 2]


def test_a_file_that_is_not_the_pinned_one_is_refused(installed: Path, tmp_path: Path) -> None:
    (installed / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(2, np.uint8)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz of .* is not the pinned"):
        fashion_mnist.load(installed, tmp_path)


def test_a_package_that_was_fetched_is_read_without_being_installed(installed: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    content = tree / str(fashion_mnist.FOLDER).lstrip("/")
    content.mkdir(parents=True)
    for file in installed.iterdir():
        (content / file.name).write_bytes(file.read_bytes())
    (tree / "DEBIAN").mkdir()
    fields = ("Package: dataset-fashion-mnist", "Version: 1", "Architecture: all", "Description: x")
    control = "\n".join((*fields, "Maintainer: a <a@b.c>\n"))
    (tree / "DEBIAN" / "control").write_text(control)
    package = tmp_path / "dataset-fashion-mnist_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, package], check=True, capture_output=True)
    train, _test = fashion_mnist.load(tmp_path / "absent", tmp_path)
    assert train.images.shape == (3, 28, 28)


def test_where_it_cannot_be_fetched_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="no apt-get: install dataset-fashion-mnist"):
        fashion_mnist.load(tmp_path / "absent", tmp_path)
