"""Triton's own client, with the same calls to the real Triton and to the gateway's gRPC edge before it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton
import yaml
from tritonclient.utils import InferenceServerException

from gateway.backends.open_inference import OpenInference
from gateway.contract import Contract
from gateway.protocols.oip_grpc import methods
from services.launch import Running, free_port
from services.tensorrt import repository
from services.tensorrt.run import launch
from tests.fakes import fake_edge
from tests.grpc_serving import GrpcServing
from tests.serving import BUILT

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "cnn_mnist"
VENV = ROOT / ".venvs" / "triton"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not VENV.exists(), reason="needs .venvs/triton"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real Triton."""
    folder = tmp_path_factory.mktemp("triton")
    started = launch(
        repository=folder / "repository",
        models=repository.render(MODEL, BUILT / "onnx", "python", folder / "repository", variants=["fp32"]),
        run_dir=folder / "run",
        http_port=free_port(),
        grpc_port=free_port(),
        metrics_port=free_port(),
        venv=VENV,
    )
    with Running(started):
        yield started.addresses["grpc"]


Clients = tuple[Any, Any]
"""Two of Triton's clients: of the real Triton, and of the gateway."""


@pytest_asyncio.fixture
async def clients(address: str) -> AsyncIterator[Clients]:
    contract = Contract.model_validate(yaml.safe_load((MODEL / "model.yaml").read_text()))
    backend: Any = OpenInference(address, contracts={contract.name: contract}, max_request_bytes=2**26)
    edge = fake_edge(backend, contract)
    server = await GrpcServing(methods(edge), edge).start()
    connect = triton.InferenceServerClient
    async with connect(address) as real, connect(server.address) as ours:
        yield real, ours
    await server.stop()
    await backend.aclose()


def image(rows: int = 1, *, shape: tuple[int, ...] = (28, 28, 1), datatype: str = "FP32") -> list[Any]:
    rng = np.random.default_rng(rows)
    tensor = triton.InferInput("image", [rows, *shape], datatype)
    values = rng.random((rows, *shape)).astype(np.float32 if datatype == "FP32" else np.int32)
    tensor.set_data_from_numpy(values)
    return [tensor]


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("classes", [0, 3, 20])
async def test_the_same_answer(clients: Clients, rows: int, classes: int) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=classes)]
    real, ours = [await client.infer("cnn_mnist", image(rows), outputs=wanted) for client in clients]
    if classes:
        assert real.as_numpy("probabilities").tolist() == ours.as_numpy("probabilities").tolist()
    else:
        assert np.abs(real.as_numpy("probabilities") - ours.as_numpy("probabilities")).max() < 1e-6
    assert [real.get_output("probabilities"), real.get_response().model_version] == [
        ours.get_output("probabilities"),
        ours.get_response().model_version,
    ]


@pytest.mark.parametrize(
    "call",
    [
        {"model_name": "cnn_mnist", "inputs": image(65)},
        {"model_name": "cnn_mnist", "inputs": image(shape=(28, 28, 2))},
        {"model_name": "cnn_mnist", "inputs": image(shape=(784,))},
        {"model_name": "cnn_mnist", "inputs": image(datatype="INT32")},
        {"model_name": "cnn_mnist", "inputs": []},
        {"model_name": "cnn_mnist", "inputs": image() + image()},
        {"model_name": "cnn_mnist", "inputs": image(), "model_version": "9"},
        {"model_name": "cnn_mnist", "inputs": image(), "outputs": [triton.InferRequestedOutput("logits")]},
        {"model_name": "cnn_mnist", "inputs": image(), "parameters": {"triton_x": 1}},
        {"model_name": "nope", "inputs": image()},
    ],
)
async def test_the_same_status_for_what_is_wrong(clients: Clients, call: dict[str, Any]) -> None:
    statuses = []
    for client in clients:
        with pytest.raises(InferenceServerException) as raised:
            await client.infer(**call)
        statuses.append(raised.value.status())
    assert statuses[0] == statuses[1]


async def test_the_same_stream(clients: Clients) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for rows in (1, 65, 2):
            yield {"model_name": "cnn_mnist", "inputs": image(rows), "request_id": str(rows)}

    def facts(result: Any, error: Any) -> tuple[Any, ...]:
        if error is not None:
            return (True,)
        reply = result.get_response()
        return reply.id, reply.parameters["triton_final_response"].bool_param, list(reply.outputs[0].shape)

    real, ours = [[facts(*reply) async for reply in client.stream_infer(requests())] for client in clients]
    assert real == ours


async def test_the_same_metadata(clients: Clients) -> None:
    def named(tensors: Any) -> list[tuple[Any, ...]]:
        return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in tensors]

    metadata = [await client.get_model_metadata("cnn_mnist") for client in clients]
    real, ours = [(list(m.versions), named(m.inputs), named(m.outputs)) for m in metadata]
    assert real == ours


async def test_the_same_configuration(clients: Clients) -> None:
    configs = [(await client.get_model_config("cnn_mnist")).config for client in clients]
    real, ours = [(c.name, c.max_batch_size, list(c.input[0].dims), c.output[0].data_type) for c in configs]
    assert real == ours


async def test_the_same_readiness(clients: Clients) -> None:
    for name, version in (("cnn_mnist", ""), ("cnn_mnist", "1"), ("cnn_mnist", "9"), ("nope", "")):
        real, ours = [await client.is_model_ready(name, version) for client in clients]
        assert real == ours


async def test_the_same_index(clients: Clients) -> None:
    indices = [await client.get_model_repository_index() for client in clients]
    real, ours = [[(m.name, m.version, m.state) for m in index.models] for index in indices]
    assert real == ours
