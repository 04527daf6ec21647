"""The rendered repository, read by Triton's own configuration message."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gateway.backends import engine_model_name
from services.tensorrt import pbtxt, plan, repository

CONTRACT: dict[str, Any] = {
    "name": "pets",
    "max_batch_size": 8,
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 3], "padded": {"axis": 0, "maximum": 20}},
        {"name": "text", "datatype": "BYTES", "shape": [1]},
    ],
    "outputs": [{"name": "kind", "datatype": "FP32", "shape": [2], "labels": ["cat", "dog"]}],
    "versions": {
        "1": {"variants": {"fp32": {}, "int8": {}, "pruned": {"unpublished": {"triton": "why"}}}},
        "2": {"variants": {"fp32": {}, "int8": {"unpublished": {"triton": "why"}}, "pruned": {}}},
    },
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    write(folder, CONTRACT)
    return folder


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """Every variant of every version but version 2's `pruned`, which missed its floor."""
    repository = tmp_path / "onnx"
    for name in ("pets/1", "pets/2", "pets-int8/1", "pets-int8/2", "pets-pruned/1"):
        publish(repository, name)
    return repository


def publish(repository: Path, name: str) -> None:
    file = repository / name / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_text(f"{repository.name} {name}")


def write(model: Path, contract: dict[str, Any]) -> None:
    (model / "model.yaml").write_text(yaml.safe_dump(contract))


def config(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_each_variant_that_is_published_here_is_a_model_with_its_versions(
    model: Path, onnx: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert repository.render(model, onnx, "onnxruntime", out) == ["pets", "pets-int8"]
    files = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.onnx")}
    assert files == {
        "pets/1/model.onnx": "onnx pets/1",
        "pets/2/model.onnx": "onnx pets/2",
        "pets-int8/1/model.onnx": "onnx pets-int8/1",
    }
    assert config(out / "pets").version_policy.HasField("all")


def test_one_variant_can_be_rendered_alone(model: Path, onnx: Path, tmp_path: Path) -> None:
    assert repository.render(model, onnx, "python", tmp_path / "out", variants=["int8"]) == ["pets-int8"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pets-int8"]


def test_tensorrt_takes_what_was_made_for_it_and_one_refusal_spoils_no_other_variant(
    model: Path, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(file: Path, out: Path, **options: Any) -> None:
        if file.parts[-3:-1] == ("pets", "2"):
            raise plan.PlanError("cannot parse it")
        out.write_text(f"{file.read_text()} {options}")

    publish(tmp_path / "onnx-tensorrt", "pets-int8/1")
    monkeypatch.setattr(plan, "build", build)
    with pytest.raises(plan.PlanError, match=r"^cannot parse it$"):
        repository.render(model, onnx, "tensorrt_plan", tmp_path / "out")
    built = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*.plan")}
    assert list(map(str, built)) == ["pets-int8/1/model.plan"]
    (only,) = built.values()
    assert only.read_text() == "onnx-tensorrt pets-int8/1 {'max_batch_size': 8, 'padded': {'image': (0, 20)}}"
    assert not (tmp_path / "out" / "pets").exists()


def test_triton_reads_the_contract_from_the_configuration(model: Path, onnx: Path, tmp_path: Path) -> None:
    repository.render(model, onnx, "python", tmp_path / "out")
    read = config(tmp_path / "out" / "pets")
    assert (read.name, read.backend, read.max_batch_size) == ("pets", "python", 8)
    assert [(i.name, i.data_type, list(i.dims)) for i in read.input] == [
        ("image", model_config_pb2.TYPE_FP32, [-1, 3]),
        ("text", model_config_pb2.TYPE_STRING, [1]),
    ]
    (output,) = read.output
    assert (output.name, output.data_type, list(output.dims)) == ("kind", model_config_pb2.TYPE_FP32, [2])
    labels = tmp_path / "out" / "pets" / output.label_filename
    assert labels.read_text() == "cat\ndog\n"
    assert read.HasField("dynamic_batching")


def test_warm_up_covers_the_smallest_and_the_largest_batch(model: Path, onnx: Path, tmp_path: Path) -> None:
    repository.render(model, onnx, "python", tmp_path / "out")
    warm_ups = config(tmp_path / "out" / "pets").model_warmup
    assert [warm_up.batch_size for warm_up in warm_ups] == [1, 8]
    assert list(warm_ups[0].inputs["image"].dims) == [8, 3]


@pytest.mark.parametrize(
    ("padded", "size"), [({"axis": 0, "maximum": 256}, 8), ({"maximum": 5}, 5), (None, 1)]
)
def test_an_open_axis_is_short_in_the_warm_up(padded: dict[str, int] | None, size: int) -> None:
    tokens = {"name": "tokens", "datatype": "INT64", "shape": [-1], "padded": padded}
    text = pbtxt.config({**CONTRACT, "inputs": [tokens]}, "pets", "python")
    read = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert [list(warm_up.inputs["tokens"].dims) for warm_up in read.model_warmup] == [[size], [size]]
    assert list(read.input[0].dims) == [-1]


@pytest.mark.parametrize(
    ("platform", "kind", "name"),
    [
        ("python", "KIND_CPU", ""),
        ("onnxruntime", "KIND_CPU", "onnxruntime_onnx"),
        ("tensorrt_plan", "KIND_GPU", "tensorrt_plan"),
    ],
)
def test_each_platform_has_its_backend_and_its_devices(platform: str, kind: str, name: str) -> None:
    text = pbtxt.config(CONTRACT, "pets", platform)
    read = text_format.Parse(text, model_config_pb2.ModelConfig())
    (group,) = read.instance_group
    assert (group.Kind.Name(group.kind), read.platform) == (kind, name)


def test_a_model_without_a_batch_axis_is_not_batched(model: Path, onnx: Path, tmp_path: Path) -> None:
    write(model, {**CONTRACT, "max_batch_size": 0})
    repository.render(model, onnx, "python", tmp_path / "out")
    read = config(tmp_path / "out" / "pets")
    assert not read.HasField("dynamic_batching")
    assert [warm_up.batch_size for warm_up in read.model_warmup] == [0]


def test_what_was_rendered_before_is_replaced(model: Path, onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    repository.render(model, onnx, "python", out)
    one = {"1": CONTRACT["versions"]["1"]}
    write(model, {**CONTRACT, "versions": one})
    repository.render(model, onnx, "onnxruntime", out)
    assert sorted(path.name for path in (out / "pets").rglob("*")) == [
        "1",
        "config.pbtxt",
        "kind_labels.txt",
        "model.onnx",
    ]


def test_the_gateway_and_triton_have_one_name_for_a_variant() -> None:
    for variant in ("fp32", "int8", "pruned_int8"):
        assert repository.engine_model_name("pets", variant) == engine_model_name("pets", variant)


def test_failures_are_one_line(
    model: Path, onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> str:
        arguments = ["--models", str(model), "--onnx", str(onnx), "--out", str(tmp_path / "out")]
        assert repository.main(arguments) == 1
        return capsys.readouterr().err

    write(model, {**CONTRACT, "outputs": [{"name": "n", "datatype": "FP32", "shape": []}]})
    assert "tensor 'n': Triton needs at least one dimension" in fails()
    write(model, CONTRACT)
    shutil.rmtree(onnx)
    assert fails() == f"{onnx} has nothing of model 'pets': run `make models`\n"
    shutil.rmtree(model)
    assert fails() == f"{model / 'model.yaml'} does not exist\n"


def test_a_model_that_fails_spoils_no_other(
    model: Path, onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    models = ["--models", str(tmp_path / "missing"), str(model)]
    assert repository.main([*models, "--onnx", str(onnx), "--out", str(out)]) == 1
    assert capsys.readouterr().out == f"{out / 'pets'}\n{out / 'pets-int8'}\n"
