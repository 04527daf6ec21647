"""The publisher: what changed comes whole, what is no longer published goes, and the rest is left alone."""

import hashlib
import json
from pathlib import Path

import pytest

from models.deliver import DeliveryError, deliver, main


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def artifact(root: Path, path: str, text: str) -> None:
    """A folder with model.onnx, or a .mar, with the manifest that `make models` would write."""
    file = root / path if path.endswith(".mar") else root / path / "model.onnx"
    write(file, text)
    manifest = file.with_suffix(".manifest.json") if path.endswith(".mar") else file.parent / "manifest.json"
    manifest.write_text(json.dumps({"files": {file.name: hashlib.sha256(text.encode()).hexdigest()}}))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    root = tmp_path / "published"
    artifact(root, "onnx/a/1", "weights")
    artifact(root, "torchserve/a.mar", "archive")
    write(root / "tfserving" / "models.config", "model_config_list {}")
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def test_everything_comes_to_an_empty_target(published: Path, target: Path) -> None:
    assert deliver(published, target) == ["onnx/a/1", "torchserve/a.mar"]
    assert (target / "onnx/a/1/model.onnx").read_text() == "weights"
    assert (target / "torchserve/a.mar").read_text() == "archive"
    assert (target / "tfserving/models.config").read_text() == "model_config_list {}"
    assert {path.name for path in target.iterdir()} == {".lock", "onnx", "torchserve", "tfserving"}


def test_what_has_not_changed_is_left_alone(published: Path, target: Path) -> None:
    deliver(published, target)
    before = (target / "onnx/a/1/model.onnx").stat().st_ino
    artifact(published, "torchserve/a.mar", "another")
    assert deliver(published, target) == ["torchserve/a.mar"]
    assert (target / "torchserve/a.mar").read_text() == "another"
    assert (target / "onnx/a/1/model.onnx").stat().st_ino == before


def test_a_folder_that_changed_is_replaced_as_a_whole(published: Path, target: Path) -> None:
    deliver(published, target)
    write(target / "onnx/a/1/stale.bin", "old")
    artifact(published, "onnx/a/1", "newer")
    assert deliver(published, target) == ["onnx/a/1"]
    assert {path.name for path in (target / "onnx/a/1").iterdir()} == {"model.onnx", "manifest.json"}


def test_what_is_no_longer_published_goes(published: Path, target: Path) -> None:
    artifact(published, "torchserve/b.mar", "b")
    deliver(published, target)
    (published / "torchserve/b.mar").unlink()
    (published / "torchserve/b.manifest.json").unlink()
    assert deliver(published, target) == ["torchserve/b.mar"]
    assert sorted(path.name for path in (target / "torchserve").iterdir()) == ["a.manifest.json", "a.mar"]


def test_a_file_that_its_manifest_does_not_name_is_refused(published: Path, target: Path) -> None:
    write(published / "onnx/a/1/model.onnx", "tampered")
    with pytest.raises(DeliveryError, match=r"model\.onnx: not the file"):
        deliver(published, target)
    assert not (target / "onnx").exists()


def test_nothing_published_is_an_error_with_the_mend(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nothing"), str(target)]) == 1
    assert "run `make models`" in capsys.readouterr().err
