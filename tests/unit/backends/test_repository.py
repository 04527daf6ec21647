"""The embedded engine's repository: a default variant that is missing stops the start, another does not."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.backends.repository import check_built
from gateway.configuration import ConfigurationError
from gateway.inference import PoolKey
from gateway.settings import EndpointSettings, Settings
from tests.fakes import a_contract

FP32, INT8 = PoolKey("adder", "1", "fp32"), PoolKey("adder", "1", "int8")


def check(root: Path, *keys: PoolKey) -> None:
    settings = Settings(
        endpoints={
            "embedded": EndpointSettings(backend="onnxruntime", repository="onnx"),
            "triton": EndpointSettings(backend="triton", address="h:1"),
        }
    )
    check_built(settings, {"adder": a_contract()}, dict.fromkeys(keys, ("triton", "embedded")), root)


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
