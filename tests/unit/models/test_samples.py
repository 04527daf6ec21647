"""Labelled payloads in a zip."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from models import samples
from models.samples import Samples


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_what_is_written_is_read_again_in_order(tmp_path: Path) -> None:
    written = Samples([b"first", b"", b"\xff" * 9], np.array([7, -1, 0], np.int64))
    samples.write(tmp_path / "one.zip", written, "png")
    read = samples.read(tmp_path / "one.zip")
    assert names(tmp_path / "one.zip") == ["0000_7.png", "0001_-1.png", "0002_0.png"]
    assert read.payloads == written.payloads
    assert read.labels.dtype == np.int64
    assert read.labels.tolist() == [7, -1, 0]


def test_labels_of_a_regression_keep_every_bit(tmp_path: Path) -> None:
    labels = np.array([326.0, 0.1, -7.25e-5, 1e12], np.float32)
    samples.write(tmp_path / "one.zip", Samples([b"x"] * 4, labels), "json")
    read = samples.read(tmp_path / "one.zip").labels
    assert read.dtype == np.float32
    assert read.tobytes() == labels.tobytes()


def test_names_sort_in_order_beyond_ten_thousand_samples() -> None:
    labels = np.arange(10_050, dtype=np.int64)
    written = list(samples._names(Samples([b""] * len(labels), labels), "txt"))
    assert written == sorted(written)
    assert written[-1] == "10049_10049.txt"
    assert all(samples.NAME.fullmatch(name) for name in written)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    written = Samples([b"text" * 100], np.array([3], np.int64))
    for name in ("one.zip", "two.zip"):
        samples.write(tmp_path / name, written, "txt")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize("member", ["7.png", "0000_seven.png", "0000_7", "../0000_7.png"])
def test_a_member_without_a_label_in_its_name_is_refused(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr(member, b"")
    with pytest.raises(ValueError, match=r"expected members such as 0000_7\.png"):
        samples.read(tmp_path / "one.zip")


def test_a_zip_without_members_is_refused(tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "one.zip", "w").close()
    with pytest.raises(ValueError, match="got nothing"):
        samples.read(tmp_path / "one.zip")


def test_a_zip_that_is_damaged_or_not_there_is_named_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "one.zip"
    with pytest.raises(ValueError, match=r"one\.zip: missing or damaged: restore the file"):
        samples.read(path)
    samples.write(path, Samples([bytes(range(256)) * 9], np.array([1], np.int64)), "png")
    whole = path.read_bytes()
    for place in (45, len(whole) - 10):  # in the member, and in the directory
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"one\.zip: missing or damaged: restore the file"):
            samples.read(path)
    path.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"one\.zip: missing or damaged: restore the file"):
        samples.read(path)


def test_a_label_is_needed_for_every_payload() -> None:
    with pytest.raises(ValueError, match="2 payloads, but 1 labels"):
        Samples([b"", b""], np.array([1], np.int64))
