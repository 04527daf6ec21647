"""What models.build builds, when it builds anew, and what it says when it cannot."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from models import build, manifest, processes
from models.artifacts import Artifact, of_model
from models.gate import Refused
from models.processes import BuildError
from models.progress import Progress

CONTRACT = """
name: {name}
max_batch_size: 8
inputs: [{{name: x, datatype: FP32, shape: [2]}}]
outputs: [{{name: y, datatype: FP32, shape: [2], labels: ["no", "yes"]}}]
default_version: "2"
floors: {{accuracy: 0.9}}
versions:
  "1":
    variants: {{fp32: {{checkpoint: one.bin, sha256: {sha256}}}}}
  "2":
    variants:
      fp32: {{checkpoint: one.bin, sha256: {sha256}}}
      int8: {{checkpoint: one.bin, sha256: {sha256}, unpublished: {{torchserve: no int8 kernels}}}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A second model: a folder with the same file set, and nothing else."""
    folder = tmp_path / "models" / "second"
    folder.mkdir(parents=True)
    sha256 = hashlib.sha256(b"weights").hexdigest()
    (folder / "model.yaml").write_text(CONTRACT.format(name="second", sha256=sha256))
    (folder / "export.py").write_text('FORMS = {"onnx": onnx, "onnx_int8_tensorrt": onnx_int8_tensorrt}\n')
    (folder / "one.bin").write_bytes(b"weights")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("first")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def copying(source: Path) -> Callable[[Path], Mapping[str, Any]]:
    def write(path: Path) -> Mapping[str, Any]:
        path.mkdir()
        (path / "content").write_text(source.read_text())
        return {"form": "copy"}

    return write


def failing(error: BuildError) -> Callable[[Path], Mapping[str, Any]]:
    def write(path: Path) -> Mapping[str, Any]:
        path.mkdir()
        raise error

    return write


def paths(model: Path, out: Path) -> list[str]:
    return [artifact.path for artifact in of_model(model, out, out / "scratch")]


def test_a_new_model_is_a_new_folder_and_nothing_more(model: Path, out: Path) -> None:
    assert paths(model, out) == [
        "onnx/second/1",
        "torchserve/second_v1.mar",
        "tfserving/second/1",
        "onnx/second/2",
        "torchserve/second.mar",
        "tfserving/second/2",
        "onnx/second-int8/2",
        "onnx-tensorrt/second-int8/2",
        "tfserving/second-int8/2",
        "triton/second",
        "triton/second-int8",
    ]


def test_what_the_contract_calls_unpublished_is_not_built_but_onnx_is(model: Path, out: Path) -> None:
    contract = model / "model.yaml"
    everywhere = ", ".join(
        f"{engine}: why" for engine in ("torchserve", "tfserving", "triton", "onnxruntime")
    )
    contract.write_text(contract.read_text().replace("torchserve: no int8 kernels", everywhere))
    assert [path for path in paths(model, out) if "int8" in path] == ["onnx/second-int8/2"]


def test_a_form_that_the_model_does_not_have_is_not_built(model: Path, out: Path) -> None:
    (model / "export.py").write_text('FORMS = {"onnx": onnx}\n')
    assert not any("tensorrt" in path for path in paths(model, out))


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("onnx", {"onnx/second/1", "onnx/second/2", "onnx/second-int8/2"}),
        (
            "torchserve",
            {"onnx/second/1", "onnx/second/2", "torchserve/second_v1.mar", "torchserve/second.mar"},
        ),
    ],
)
def test_a_form_brings_the_onnx_that_it_needs_and_nothing_else(
    model: Path, out: Path, form: str, wanted: set[str]
) -> None:
    chosen = build.select(list(of_model(model, out, out)), form)
    assert {artifact.path for artifact in chosen} == wanted


@pytest.mark.parametrize("changed", ["export.py", "network.py", "one.bin", "vocabulary.txt"])
def test_every_file_that_is_exported_counts(model: Path, out: Path, changed: str) -> None:
    def digests() -> list[str]:
        return [
            build.digest(artifact, {}) for artifact in of_model(model, out, out) if "int8" in artifact.path
        ]

    before = digests()
    (model / changed).write_text("weights" if changed == "one.bin" else "changed")
    if changed == "one.bin":
        text = (model / "model.yaml").read_text()
        sha256 = hashlib.sha256(b"changed").hexdigest()
        (model / changed).write_text("changed")
        (model / "model.yaml").write_text(text.replace(hashlib.sha256(b"weights").hexdigest(), sha256))
    assert all(old != new for old, new in zip(before[:-1], digests(), strict=False))


def test_how_it_was_trained_does_not_count(model: Path, out: Path) -> None:
    before = [build.digest(artifact, {}) for artifact in of_model(model, out, out)]
    for name in ("train.py", "README.md", "versions/1/history.json"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("changed")
    assert [build.digest(artifact, {}) for artifact in of_model(model, out, out)] == before


def test_an_artifact_is_built_once_and_again_when_a_source_changes(source: Path, out: Path) -> None:
    artifact = Artifact("engine/thing", [source], copying(source))
    assert build.bring_up_to_date(artifact, out)
    assert not build.bring_up_to_date(artifact, out)
    assert build.bring_up_to_date(artifact, out, force=True)
    source.write_text("second")
    assert build.bring_up_to_date(artifact, out)
    assert (out / "engine/thing/content").read_text() == "second"


def test_an_artifact_is_built_again_when_its_record_changes(source: Path, out: Path) -> None:
    for accuracy, built in ((0.9, True), (0.9, False), (0.8, True)):
        record: Callable[[], dict[str, float]] = partial(dict, accuracy=accuracy)
        artifact = Artifact("engine/thing", [source], copying(source), record=record)
        assert build.bring_up_to_date(artifact, out) is built


def test_a_failed_build_leaves_the_old_artifact_and_nothing_else(source: Path, out: Path) -> None:
    build.bring_up_to_date(Artifact("engine/thing", [source], copying(source)), out)
    source.write_text("second")
    with pytest.raises(BuildError, match="no"):
        build.bring_up_to_date(Artifact("engine/thing", [source], failing(BuildError("no"))), out)
    assert (out / "engine/thing/content").read_text() == "first"
    assert [path.name for path in out.iterdir()] == ["engine"]


def test_what_is_refused_is_gone_and_so_is_what_is_made_of_it(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def artifacts(write: Callable[[Path], Mapping[str, Any]]) -> list[Artifact]:
        return [
            Artifact("onnx/good", [source], copying(source)),
            Artifact("onnx/bad", [source], write),
            Artifact("engine/bad", [source], copying(source), ["onnx/bad"]),
            Artifact("engine/both", [source], copying(source), ["onnx/good", "onnx/bad"], needs_all=False),
        ]

    def remaining() -> list[str]:
        return sorted(str(path.parent.relative_to(out)) for path in out.rglob("content"))

    everything = ["engine/bad", "engine/both", "onnx/bad", "onnx/good"]
    assert build.build_all(artifacts(copying(source)), out, force=False, progress=Progress(3)) == (0, set())
    source.write_text("changed")
    wrong = artifacts(failing(BuildError("no")))
    assert build.build_all(wrong, out, force=False, progress=Progress(3)) == (2, set())
    assert remaining() == everything
    source.write_text("changed again")
    capsys.readouterr()
    bad = artifacts(failing(Refused("accuracy 0.1")))
    failed, refused = build.build_all(bad[:2], out, force=False, progress=Progress(2))
    build.withdraw(bad, out, refused)
    assert failed == 1
    assert remaining() == ["engine/both", "onnx/good"]
    assert capsys.readouterr().out.splitlines()[-1].startswith("[2/2] onnx/bad: refused: accuracy 0.1")


def test_a_refusal_by_the_record_comes_before_anything_is_built(source: Path, out: Path) -> None:
    def refuse() -> Mapping[str, Any]:
        raise Refused("its evaluation is missing")

    untouched = Artifact("onnx/bad", [source], failing(AssertionError("was built")), record=refuse)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="evaluation"):
        build.bring_up_to_date(untouched, out)


def test_a_manifest_names_files_by_hash_and_no_path_of_this_machine(source: Path, out: Path) -> None:
    build.bring_up_to_date(Artifact("engine/thing/1", [source], copying(source)), out)
    text = (out / "engine/thing/1/manifest.json").read_text()
    content = json.loads(text)
    assert content["artifact"] == "engine/thing/1"
    assert content["engine"] == "engine"
    assert content["form"] == "copy"
    assert content["files"] == {"content": hashlib.sha256(b"first").hexdigest()}
    assert content["code_version"]
    assert str(out) not in text
    assert str(processes.ROOT) not in text


def test_the_manifest_of_an_archive_lies_beside_it(source: Path, out: Path) -> None:
    def write(path: Path) -> Mapping[str, Any]:
        path.write_text("archive")
        return {}

    artifact = Artifact("torchserve/second.mar", [source], write)
    assert build.bring_up_to_date(artifact, out)
    assert not build.bring_up_to_date(artifact, out)
    files = manifest.read(out / "torchserve/second.mar")["files"]
    assert files == {"second.mar": hashlib.sha256(b"archive").hexdigest()}
    build.remove_unwanted(out, set())
    assert list((out / "torchserve").iterdir()) == []


def test_weights_that_the_contract_does_not_name_are_not_built(model: Path, out: Path) -> None:
    (model / "one.bin").write_bytes(b"others")
    with pytest.raises(BuildError, match=r"one\.bin: .*correct the sha256"):
        paths(model, out)


@pytest.mark.parametrize(("old", "says"), [("fp32:", "no fp32"), ("checkpoint: one.bin, ", "a checkpoint")])
def test_without_fp32_or_its_weights_nothing_is_built(model: Path, out: Path, old: str, says: str) -> None:
    contract = model / "model.yaml"
    contract.write_text(contract.read_text().replace(old, "fp16:" if old == "fp32:" else ""))
    with pytest.raises(BuildError, match=rf"version 1 .*{says}"):
        paths(model, out)


def test_a_wrong_contract_names_file_and_line(model: Path, out: Path) -> None:
    path = model / "model.yaml"
    path.write_text(path.read_text() + "colour: red\n")
    with pytest.raises(BuildError, match=r"model\.yaml:15: colour: unknown key"):
        paths(model, out)


def test_a_missing_environment_names_the_target_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    with pytest.raises(BuildError, match="run `make env-tensorflow`"):
        processes.run("tensorflow", "python", "--version")


def test_models_config_lists_what_was_built(out: Path) -> None:
    for path in ("second/1", "second-int8/1", "second-int8/2", "gone"):
        (out / "tfserving" / path).mkdir(parents=True)
    text = build.models_config(out)
    assert text.count("config {") == 2
    assert 'name: "second-int8"\n    base_path: "/models/tfserving/second-int8"' in text


def test_what_no_contract_asks_for_any_more_is_removed(source: Path, out: Path) -> None:
    for path in ("engine/kept", "engine/gone"):
        build.bring_up_to_date(Artifact(path, [source], copying(source)), out)
    build.remove_unwanted(out, {"engine/kept"})
    assert [path.name for path in (out / "engine").iterdir()] == ["kept"]


def test_one_model_that_cannot_be_built_does_not_stop_the_others(
    model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = model.parent / "first"
    first.mkdir()
    (first / "model.yaml").write_text("name: 1\n")
    monkeypatch.setattr(build, "MODELS", model.parent)
    assert build.main(["--out", str(out), "--model", "first", "--model", "second", "--form", "onnx"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("first: not built: ")
    assert printed.out.splitlines()[0].startswith("[1/3] onnx/second/1: refused: its evaluation is missing")
