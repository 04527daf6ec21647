"""The embedded engine's repository: a default variant that is missing stops the start, another does not."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from structlog.testing import capture_logs

from gateway.backends.repository import check_built, file_digests, model_files
from gateway.configuration import ConfigurationError
from gateway.inference import PoolKey
from gateway.settings import EndpointSettings, Settings
from tests.fakes import a_contract

FP32, INT8 = PoolKey("adder", "1", "fp32"), PoolKey("adder", "1", "int8")


SETTINGS = Settings(
    endpoints={
        "embedded": EndpointSettings(backend="onnxruntime", repository="onnx"),
        "triton": EndpointSettings(backend="triton", address="h:1"),
    }
)


def check(root: Path, *keys: PoolKey) -> None:
    check_built(SETTINGS, {"adder": a_contract()}, dict.fromkeys(keys, ("triton", "embedded")), root)


def digest(root: Path) -> bytes:
    return file_digests(SETTINGS, {FP32: ("triton", "embedded")}, root)[FP32]


def write_network(file: Path, *locations: str) -> None:
    """An ONNX file with a tensor in each of these."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = []
    for location in locations:
        tensors.append(TensorProto(name=location, raw_data=b""))
        set_external_data(tensors[-1], location)
    network = helper.make_model(helper.make_graph([], "g", [], [], tensors))
    file.write_bytes(network.SerializeToString())


def build(root: Path, path: str) -> None:
    (root / "onnx" / path).mkdir(parents=True)
    (root / "onnx" / path / "model.onnx").touch()


def test_what_was_built_is_found_by_the_engines_name_of_the_variant(tmp_path: Path) -> None:
    build(tmp_path, "adder/1")
    build(tmp_path, "adder-int8/1")
    with capture_logs() as logs:
        check(tmp_path, FP32, INT8)
    assert logs == []


def test_a_default_variant_that_was_not_built_is_told_with_the_mend(tmp_path: Path) -> None:
    build(tmp_path, "adder-int8/1")
    with pytest.raises(ConfigurationError) as refused:
        check(tmp_path, INT8, FP32)
    file = tmp_path / "onnx/adder/1/model.onnx"
    place = "endpoints.embedded.repository"
    mend = "put it there; `make models` builds those of models/"
    assert str(refused.value) == f"{place}: version 1 of model 'adder': there is no file {file}: {mend}"


def test_a_refused_variant_leaves_the_others_served_and_a_line_in_the_log(tmp_path: Path) -> None:
    build(tmp_path, "adder/1")
    with capture_logs() as logs:
        check(tmp_path, FP32, INT8)
    (entry,) = logs
    assert (entry["event"], entry["endpoint"]) == ("variant_not_built", "embedded")
    assert entry["file"].endswith("adder-int8/1/model.onnx")


def test_the_digest_covers_the_weights_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "onnx/adder/1/model.onnx"
    write_network(file, "weights/a", "./b")
    (file.parent / "weights").mkdir()
    seen = set()
    for path, content in (("weights/a", b"1"), ("b", b"1"), ("weights/a", b"22"), ("b", b"22"), ("c", b"1")):
        (file.parent / path).write_bytes(content)
        seen.add(digest(tmp_path))
    assert len(seen) == 4  # `c` is named nowhere
    assert digest(tmp_path) in seen


@pytest.mark.parametrize("content", [None, b""])
def test_what_cannot_be_read_has_a_digest_of_its_own(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "onnx/adder/1/model.onnx"
    write_network(file, "weights", "")  # the second is a folder
    if content is not None:
        (file.parent / "weights").write_bytes(content)
    assert len(digest(tmp_path)) == 3 * 32


def test_weights_out_of_the_files_folder_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "onnx/adder/1/model.onnx"
    write_network(file, "../up", str(tmp_path / "up"), "link", "sub/../in", "/dev/zero")
    (file.parent / "link").symlink_to("../up")
    assert model_files(tmp_path / "onnx", FP32) == (file, file.parent / "sub/../in")


def test_a_file_that_is_a_link_may_have_its_weights_where_it_leads(tmp_path: Path) -> None:
    file = tmp_path / "onnx/adder/1/model.onnx"
    file.parent.mkdir(parents=True)
    write_network(tmp_path / "blobs/abc", "weights", "other")
    file.symlink_to(tmp_path / "blobs/abc")
    (file.parent / "weights").symlink_to(tmp_path / "blobs/def")
    (file.parent / "other").symlink_to(tmp_path / "elsewhere")
    assert model_files(tmp_path / "onnx", FP32) == (file, file.parent / "weights")
