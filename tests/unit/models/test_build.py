"""What models.build builds, when it builds anew, and what it says when it cannot."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from models import artifacts, build
from models.artifacts import Artifact, BuildError, of_model

CONTRACT = """
name: {name}
max_batch_size: 8
inputs: [{{name: x, datatype: FP32, shape: [2]}}]
outputs: [{{name: y, datatype: FP32, shape: [2], labels: ["no", "yes"]}}]
default_version: "2"
versions:
  "1": {{weights: one.bin, sha256: {sha256}, variants: [fp32], onnx: {{fp32: one.onnx}}}}
  "2": {{weights: one.bin, sha256: {sha256}, variants: [fp32, int8], onnx: {{fp32: one.onnx}}}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A second model: a folder with the same file set, and nothing else."""
    folder = tmp_path / "models" / "second"
    folder.mkdir(parents=True)
    sha256 = hashlib.sha256(b"weights").hexdigest()
    (folder / "model.yaml").write_text(CONTRACT.format(name="second", sha256=sha256))
    (folder / "one.bin").write_bytes(b"weights")
    (folder / "one.onnx").write_bytes(b"graph")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("first")
    return path


def copy_of(source: Path) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "content").write_text(source.read_text())

    return write


def refuse(path: Path) -> None:
    (path / "half").parent.mkdir()
    raise BuildError("no")


def test_a_new_model_is_a_new_folder_and_nothing_more(model: Path) -> None:
    assert [artifact.path for artifact in of_model(model)] == [
        "torchserve/second_v1.mar",
        "tfserving/second/1",
        "torchserve/second.mar",
        "tfserving/second/2",
        "torchserve/second-int8.mar",
        "tfserving/second-int8/2",
        "triton/second",
    ]


def test_triton_s_repository_is_written_from_the_contract(model: Path, tmp_path: Path) -> None:
    (artifact,) = (artifact for artifact in of_model(model) if artifact.path == "triton/second")
    assert build.bring_up_to_date(artifact, tmp_path / "out")
    written = tmp_path / "out/triton/second"
    assert (written / "2/model.onnx").read_bytes() == b"graph"
    assert 'name: "second"' in (written / "config.pbtxt").read_text()


def test_what_did_not_change_is_not_built_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    artifact = Artifact("engine/thing", [source], copy_of(source))
    assert build.bring_up_to_date(artifact, out)
    assert not build.bring_up_to_date(artifact, out)
    assert build.bring_up_to_date(artifact, out, force=True)
    source.write_text("second")
    assert build.bring_up_to_date(artifact, out)
    assert (out / "engine/thing/content").read_text() == "second"


def test_a_failed_build_leaves_the_old_artifact_and_nothing_else(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build.bring_up_to_date(Artifact("engine/thing", [source], copy_of(source)), out)
    source.write_text("second")
    with pytest.raises(BuildError, match="no"):
        build.bring_up_to_date(Artifact("engine/thing", [source], refuse), out)
    assert (out / "engine/thing/content").read_text() == "first"
    assert sorted(path.name for path in out.iterdir()) == [build.STAMPS, "engine"]


def test_weights_that_the_contract_does_not_name_are_not_built(model: Path) -> None:
    (model / "one.bin").write_bytes(b"others")
    with pytest.raises(BuildError, match=r"one\.bin: .*correct the sha256"):
        list(of_model(model))


def test_a_wrong_contract_names_file_and_line(model: Path) -> None:
    path = model / "model.yaml"
    path.write_text(path.read_text() + "colour: red\n")
    with pytest.raises(BuildError, match=r"model\.yaml:10: colour: unknown key"):
        list(of_model(model))


def test_a_missing_environment_names_the_target_that_makes_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (artifact,) = (artifact for artifact in of_model(model) if artifact.path == "tfserving/second/2")
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    with pytest.raises(BuildError, match="run `make env-tensorflow`"):
        artifact.write(tmp_path / "out")


def test_models_config_lists_what_was_built(tmp_path: Path) -> None:
    for path in ("second/1", "second-int8/1", "second-int8/2", "gone"):
        (tmp_path / "out/tfserving" / path).mkdir(parents=True)
    text = build.models_config(tmp_path / "out")
    assert text.count("config {") == 2
    assert 'name: "second-int8"\n    base_path: "/models/second-int8"' in text


def test_what_no_contract_asks_for_any_more_is_removed(source: Path, tmp_path: Path) -> None:
    for path in ("engine/kept", "engine/gone"):
        build.bring_up_to_date(Artifact(path, [source], copy_of(source)), tmp_path)
    build.remove_unwanted(tmp_path, {"engine/kept"})
    assert [path.name for path in (tmp_path / "engine").iterdir()] == ["kept"]
    assert [path.name for path in (tmp_path / build.STAMPS / "engine").iterdir()] == ["kept"]


def test_one_model_that_cannot_be_built_does_not_stop_the_others(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = model.parent / "first"
    first.mkdir()
    (first / "model.yaml").write_text("name: 1\n")
    monkeypatch.setattr(build, "MODELS", model.parent)
    monkeypatch.setattr(build, "of_model", lambda folder: [a for a in of_model(folder) if "triton" in a.path])
    assert build.main(["--out", str(tmp_path / "out"), "--model", "first", "--model", "second"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("triton/second: built in")
    assert printed.err.startswith("first: not built: ")
