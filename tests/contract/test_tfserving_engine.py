"""The TF Serving stand-in in `.venvs/tensorflow`, as its clients see it, and our backend in front of it."""

import math
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import yaml
from google.protobuf import text_format

from gateway.backends import CannotServe
from gateway.backends.tfserving import TFServing
from gateway.contract import Contract
from gateway.errors import EndpointFailed, RejectedByBackend
from gateway.inference import InferRequest, Tensor, split_bytes
from models.cnn_mnist.transform import to_inputs
from services.launch import Running, free_port
from services.protocol import tfserving_pb2 as pb
from services.tfserving.run import launch
from tests.contract.tfserving_rig import (
    MODELS_CONFIG,
    SAVED_MODELS,
    VENV,
    WAIT_SECONDS,
    Server,
    made_models,
    proto,
    spoilt,
)
from tests.fakes import a_version
from tests.serving import ROOT

BUILT = ROOT / "build" / "models" / "tfserving"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not VENV.exists(), reason="needs .venvs/tensorflow"),
]

MISSING_INPUT = (
    "input size does not match signature: 2!=3 len({index,values}) != len({index,text,values}). "
    "Sent extra: {}. Missing but required: {text}."
)
UNKNOWN_OUTPUT = (
    "output tensor alias not found in signature: none Outputs expected to be in the set {row,scaled,shout}."
)
CONTRACT = Contract.model_validate(
    {
        "name": "both",
        "max_batch_size": 4,
        "inputs": [
            {"name": "values", "datatype": "FP32", "shape": [2]},
            {"name": "text", "datatype": "BYTES", "shape": [1]},
            {"name": "index", "datatype": "INT64", "shape": [1]},
        ],
        "outputs": [
            {"name": "scaled", "datatype": "FP32", "shape": [2]},
            {"name": "shout", "datatype": "BYTES", "shape": [1]},
            {"name": "row", "datatype": "FP32", "shape": [1]},
        ],
        "default_version": "1",
        "versions": {version: a_version("fp32") for version in ("1", "2", "3")},
    }
)
VALUES = Tensor.of("values", "FP32", np.array([[1.0, 2.0], [3.0, 4.0]]))
TEXT = Tensor.of_bytes("text", (2, 1), [b"one", b""])


def index(*rows: int) -> Tensor:
    return Tensor.of("index", "INT64", np.array(rows).reshape(-1, 1))


REQUEST = InferRequest("both", (VALUES, TEXT, index(0, 2)), deadline=math.inf, version="1", variant="fp32")


@pytest.fixture(scope="session")
def saved_models() -> Path:
    return made_models(SAVED_MODELS)


def eventually(check: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_SECONDS
    while not check():
        assert time.monotonic() < give_up
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(saved_models, models / "both")
    shutil.copytree(saved_models / "1", models / "newest" / "1")
    (models / "models.config").write_text(MODELS_CONFIG)
    started = launch(
        models_config=models / "models.config",
        models_root=models,
        run_dir=tmp_path_factory.mktemp("run"),
        port=free_port(),
        venv=VENV,
    )
    with Running(started):
        client = Server(started.addresses["grpc"], models)
        yield client
        client.close()


@pytest_asyncio.fixture
async def backend(server: Server) -> AsyncIterator[TFServing]:
    made = TFServing(server.address, contracts={"both": CONTRACT}, max_request_bytes=1024 * 1024)
    yield made
    await made.aclose()


async def test_the_backend_gets_numbers_and_strings_of_the_version_asked_for(backend: TFServing) -> None:
    scaled, shout, row = (await backend(REQUEST)).outputs
    assert scaled.numpy().tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert list(split_bytes(shout)) == [b"ONE", b""]
    assert row.numpy().tolist() == [[1.0], [3.0]]
    request = InferRequest("both", REQUEST.inputs, math.inf, version="2", variant="fp32", outputs=("scaled",))
    (scaled,) = (await backend(request)).outputs
    assert scaled.numpy().tolist() == [[3.0, 6.0], [9.0, 12.0]]


async def test_a_version_that_is_not_there_is_an_endpoint_that_failed(backend: TFServing) -> None:
    with pytest.raises(EndpointFailed, match=r"Servable not found for request: Specific\(both, 3\)"):
        await backend(InferRequest("both", REQUEST.inputs, math.inf, version="3", variant="fp32"))


async def test_what_the_graph_itself_refuses_is_the_inputs_fault(backend: TFServing) -> None:
    inputs = (VALUES, TEXT, index(0, 99))
    with pytest.raises(RejectedByBackend, match="99 is not in"):
        await backend(InferRequest("both", inputs, math.inf, version="1", variant="fp32"))


async def test_readiness_is_that_of_the_version(backend: TFServing) -> None:
    assert await backend.is_ready("both", "2", "fp32")
    assert not await backend.is_ready("both", "3", "fp32")
    assert not await backend.is_ready("both", "1", "int8")


async def test_a_signature_that_does_not_fit_the_contract_is_not_served(server: Server) -> None:
    outputs = [
        {"name": "scaled", "datatype": "FP64", "shape": [2]},
        {"name": "none", "datatype": "BOOL", "shape": [1]},
    ]
    described = {**CONTRACT.model_dump(exclude={"inputs", "outputs"}), "outputs": outputs}
    inputs = [each.model_dump() for each in CONTRACT.inputs[:2]]
    contract = Contract.model_validate({**described, "inputs": inputs})
    backend = TFServing(server.address, contracts={"both": contract}, max_request_bytes=1024 * 1024)
    with pytest.raises(CannotServe) as raised:
        await backend.is_ready("both", "2", "fp32")
    await backend.aclose()
    place = f"TF Serving at {server.address}, model 'both' version 2: "
    assert [line.removeprefix(place) for line in str(raised.value).splitlines()] == [
        "input 'index': it is INT64 [-1, 1] here, and not in model.yaml; add it",
        "output 'scaled': it is FP32 [-1, 2] here, and FP64 [-1, 2] (max_batch_size 4) in model.yaml",
        "output 'none': it is in model.yaml, and not here; known here: row, scaled, shout",
    ]


@pytest.mark.skipif(not (BUILT / "models.config").exists(), reason="needs `make models`")
async def test_the_exported_digit_model_fits_its_contract_and_knows_its_example(tmp_path: Path) -> None:
    folder = ROOT / "models" / "cnn_mnist"
    contract = Contract.model_validate(yaml.safe_load((folder / "model.yaml").read_text()))
    image = to_inputs((folder / contract.example).read_bytes())["image"]
    inputs = (Tensor.of("image", "FP32", image[np.newaxis]),)
    started = launch(
        models_config=BUILT / "models.config",
        models_root=BUILT.parent,
        run_dir=tmp_path,
        port=free_port(),
        venv=VENV,
    )
    with Running(started):
        backend = TFServing(
            started.addresses["grpc"], contracts={contract.name: contract}, max_request_bytes=1024 * 1024
        )
        request = InferRequest(
            contract.name, inputs, math.inf, version=contract.default_version, variant="fp32"
        )
        assert await backend.is_ready(contract.name, contract.default_version, "fp32")
        (probabilities,) = (await backend(request)).outputs
        await backend.aclose()
    assert probabilities.numpy().sum() == pytest.approx(1.0, abs=1e-5)
    assert probabilities.numpy().argmax() == 7


def test_answers_are_typed_fields(server: Server) -> None:
    scaled = server.predict("both").outputs["scaled"]
    assert (list(scaled.float_val), scaled.tensor_content) == ([3.0, 6.0], b"")


def test_without_a_version_the_latest_answers_and_says_so(server: Server) -> None:
    spec = server.predict("both").model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("both", 2, "serving_default")


def test_a_label_stands_for_its_version(server: Server) -> None:
    assert server.predict("both", version_label="stable").model_spec.version.value == 1


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"model": "none"}, "NOT_FOUND", "Servable not found for request: Latest(none)"),
        ({"signature": "other"}, "FAILED_PRECONDITION", 'Serving signature key "other" not found.'),
        (
            {"text": None},
            "INVALID_ARGUMENT",
            MISSING_INPUT,
        ),
        (
            {"values": proto(pb.DT_DOUBLE, [1, 2], double_val=[1.0])},
            "INVALID_ARGUMENT",
            "Expects arg[2] to be float but double is provided",
        ),
        (
            {"values": proto(pb.DT_FLOAT, [1, 2], tensor_content=b"\0" * 7)},
            "INVALID_ARGUMENT",
            "tensor parsing error: values",
        ),
        (
            {"outputs": ["none"]},
            "INVALID_ARGUMENT",
            UNKNOWN_OUTPUT,
        ),
        ({"outputs": ["row", "row"]}, "INVALID_ARGUMENT", "duplicate output tensor alias: row"),
    ],
)
def test_a_bad_request_is_refused_in_the_real_servers_words(
    server: Server, change: dict[str, Any], code: str, text: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        server.send(spoilt(**change))
    error: Any = raised.value
    assert (error.code().name, error.details()) == (code, text)


def test_metadata_carries_the_signatures_as_the_official_any(server: Server) -> None:
    request = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "both"
    reply = server.call("PredictionService/GetModelMetadata", request, pb.GetModelMetadataResponse)
    packed = reply.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = pb.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert signature.inputs["values"].dtype == pb.DT_FLOAT
    assert [dim.size for dim in signature.inputs["values"].tensor_shape.dim] == [-1, 2]
    assert set(signature.outputs) == {"scaled", "shout", "row"}


def test_a_new_version_is_found_and_replaces_the_old_one(server: Server, saved_models: Path) -> None:
    assert server.states("newest") == {1: "AVAILABLE"}
    arriving = server.models / "newest" / "arriving"
    shutil.copytree(saved_models / "2", arriving)
    arriving.rename(server.models / "newest" / "2")
    eventually(lambda: server.states("newest") == {1: "END", 2: "AVAILABLE"})
    assert server.predict("newest").model_spec.version.value == 2


def test_a_reload_returns_when_the_new_model_answers_and_the_old_one_goes(server: Server) -> None:
    config = text_format.Parse(MODELS_CONFIG, pb.ModelServerConfig())
    added = config.model_config_list.config.add(name="added", base_path="/models/both")
    added.model_version_policy.specific.versions.append(1)
    server.reload(config)
    assert server.predict("added").model_spec.version.value == 1
    server.reload(text_format.Parse(MODELS_CONFIG, pb.ModelServerConfig()))
    assert server.states("added") == {1: "END"}


def test_a_reload_that_is_refused_changes_nothing(server: Server) -> None:
    config = text_format.Parse(MODELS_CONFIG, pb.ModelServerConfig())
    config.model_config_list.config.add(name="added", base_path="/models/both")
    config.model_config_list.config.add(name="both", base_path="/models/both")
    with pytest.raises(grpc.RpcError) as raised:
        server.reload(config)
    error: Any = raised.value
    assert error.details() == "Illegal to list model both multiple times in config list"
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        server.predict("added")
