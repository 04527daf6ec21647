"""The rendered repository, read by Triton's own configuration message."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gateway.backends import engine_model_name
from services.tensorrt import repository

CONTRACT: dict[str, Any] = {
    "name": "pets",
    "max_batch_size": 8,
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "text", "datatype": "BYTES", "shape": [1]},
    ],
    "outputs": [{"name": "kind", "datatype": "FP32", "shape": [2], "labels": ["cat", "dog"]}],
    "versions": {
        "1": {"onnx": {"fp32": "one.onnx", "int8": "one8.onnx"}},
        "2": {"onnx": {"fp32": "two.onnx"}},
    },
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    write(folder, CONTRACT)
    for name in ("one", "one8", "two"):
        (folder / f"{name}.onnx").write_text(name)
    return folder


def write(model: Path, contract: dict[str, Any]) -> None:
    (model / "model.yaml").write_text(yaml.safe_dump(contract))


def config(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_each_variant_is_a_model_with_its_versions(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert repository.render(model, "onnxruntime", out) == ["pets", "pets-int8"]
    files = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.onnx")}
    assert files == {
        "pets/1/model.onnx": "one",
        "pets/2/model.onnx": "two",
        "pets-int8/1/model.onnx": "one8",
    }
    assert config(out / "pets").version_policy.HasField("all")


def test_triton_reads_the_contract_from_the_configuration(model: Path, tmp_path: Path) -> None:
    repository.render(model, "python", tmp_path / "out")
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


def test_warm_up_covers_the_smallest_and_the_largest_batch(model: Path, tmp_path: Path) -> None:
    repository.render(model, "python", tmp_path / "out")
    warm_ups = config(tmp_path / "out" / "pets").model_warmup
    assert [warm_up.batch_size for warm_up in warm_ups] == [1, 8]
    assert list(warm_ups[0].inputs["image"].dims) == [1, 3]


@pytest.mark.parametrize(
    ("platform", "kind", "name"),
    [
        ("python", "KIND_CPU", ""),
        ("onnxruntime", "KIND_CPU", "onnxruntime_onnx"),
        ("tensorrt_plan", "KIND_GPU", "tensorrt_plan"),
    ],
)
def test_each_platform_has_its_backend_and_its_devices(platform: str, kind: str, name: str) -> None:
    text = repository.config(CONTRACT, "pets", platform)
    read = text_format.Parse(text, model_config_pb2.ModelConfig())
    (group,) = read.instance_group
    assert (group.Kind.Name(group.kind), read.platform) == (kind, name)


def test_a_model_without_a_batch_axis_is_not_batched(model: Path, tmp_path: Path) -> None:
    write(model, {**CONTRACT, "max_batch_size": 0})
    repository.render(model, "python", tmp_path / "out")
    read = config(tmp_path / "out" / "pets")
    assert not read.HasField("dynamic_batching")
    assert [warm_up.batch_size for warm_up in read.model_warmup] == [0]


def test_what_was_rendered_before_is_replaced(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    repository.render(model, "python", out)
    one = {"1": CONTRACT["versions"]["1"]}
    write(model, {**CONTRACT, "versions": one})
    repository.render(model, "onnxruntime", out)
    assert sorted(path.name for path in (out / "pets").rglob("*")) == [
        "1",
        "config.pbtxt",
        "kind_labels.txt",
        "model.onnx",
    ]


def test_the_gateway_and_triton_have_one_name_for_a_variant() -> None:
    for variant in ("fp32", "int8", "pruned_int8"):
        assert repository.engine_model_name("pets", variant) == engine_model_name("pets", variant)


def test_failures_are_one_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        arguments = ["--models", str(model), "--out", str(tmp_path / "out")]
        assert repository.main(arguments) == 1
        return capsys.readouterr().err

    (model / "two.onnx").unlink()
    assert fails() == f"{model / 'two.onnx'} does not exist\n"
    write(model, {**CONTRACT, "versions": {"1": {}}})
    assert fails() == "model 'pets' has no version with an ONNX file\n"
    write(model, {**CONTRACT, "outputs": [{"name": "n", "datatype": "FP32", "shape": []}]})
    assert "tensor 'n': Triton needs at least one dimension" in fails()
    shutil.rmtree(model)
    assert fails() == f"{model / 'model.yaml'} does not exist\n"
