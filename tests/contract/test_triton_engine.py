"""The Triton backend, the rendered repository and its python model against the real Triton."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import pytest_asyncio
import yaml
from onnx import TensorProto, helper, numpy_helper

from gateway.backends import engine_model_name
from gateway.backends.open_inference import OpenInference
from gateway.contract import Contract
from gateway.errors import EndpointFailed, RejectedByBackend
from gateway.inference import InferRequest, InferResponse, Tensor
from services.launch import Launch, Running, free_port
from services.tensorrt import repository
from services.tensorrt.run import launch
from tests.fakes import a_version
from tests.serving import until_unreachable

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venvs" / "triton"
RECOVERY_SECONDS = 30.0
SCALES = {("1", "fp32"): 0.5, ("1", "int8"): 3.0, ("2", "fp32"): 2.0}

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not VENV.exists(), reason="needs .venvs/triton"),
]


CONTRACT = {
    "name": "lookup",
    "max_batch_size": 64,
    "inputs": [{"name": "index", "datatype": "INT64", "shape": [-1]}],
    "outputs": [
        {"name": "rows", "datatype": "FP32", "shape": [-1]},
        {"name": "total", "datatype": "FP32", "shape": [1]},
    ],
    "default_version": "1",
    "versions": {"1": a_version("fp32", "int8"), "2": a_version("fp32")},
}


def lookup_network(scale: float) -> onnx.ModelProto:
    """Looks rows of a table of 100 up: one beyond it passes every check of the contract, and then fails."""
    table = np.arange(100, dtype=np.float32) * np.float32(scale)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "index"], ["rows"]),
            helper.make_node("ReduceSum", ["rows", "axes"], ["total"], keepdims=1),
        ],
        "lookup",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["N", "M"])],
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", "M"]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["N", 1]),
        ],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Engine:
    """A Triton that can be started more than once at the same address."""

    def __init__(self, folder: Path) -> None:
        model, published, models = folder / "lookup", folder / "onnx", folder / "repository"
        model.mkdir()
        (model / "model.yaml").write_text(yaml.safe_dump(CONTRACT))
        for (number, variant), scale in SCALES.items():
            file = published / engine_model_name("lookup", variant) / number / "model.onnx"
            file.parent.mkdir(parents=True)
            onnx.save(lookup_network(scale), file)
        self.launch: Launch = launch(
            repository=models,
            models=repository.render(model, published, "python", models),
            run_dir=folder / "run",
            http_port=free_port(),
            grpc_port=free_port(),
            metrics_port=free_port(),
            venv=VENV,
        )

    def backend(self) -> OpenInference:
        contract = Contract.model_validate(CONTRACT)
        contracts = {"lookup": contract, "missing": contract}
        return OpenInference(
            self.launch.addresses["grpc"], contracts=contracts, max_request_bytes=64 * 1024 * 1024
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(folder)


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Running]:
    with Running(engine.launch) as server:
        yield server


@pytest_asyncio.fixture
async def backend(engine: Engine, server: Running) -> AsyncIterator[OpenInference]:
    assert server.process.poll() is None
    backend = engine.backend()
    yield backend
    await backend.aclose()


def lookup(index: np.ndarray, **changes: Any) -> InferRequest:
    fields: dict[str, Any] = {
        "model": "lookup",
        "inputs": (Tensor.of("index", "INT64", index),),
        "deadline": time.monotonic() + 30,
        "version": "1",
        "variant": "fp32",
    }
    return InferRequest(**{**fields, **changes})


def check(response: InferResponse, index: np.ndarray, scale: float = 0.5) -> None:
    rows, total = (tensor.numpy() for tensor in response.outputs)
    assert rows.tolist() == (index * scale).tolist()
    assert total.tolist() == (index * scale).sum(axis=1, keepdims=True).tolist()


def stubs(server: Running) -> list[int]:
    """The processes of the models: children of the server that are not yet dead."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=", "--ppid", str(server.pid)], capture_output=True, text=True, check=True
    )
    lines = (line.split() for line in listed.stdout.splitlines())
    return [int(pid) for pid, state in lines if not state.startswith("Z")]


async def until_ready(backend: OpenInference) -> None:
    give_up = time.monotonic() + RECOVERY_SECONDS
    while not await backend.is_ready("lookup", "1", "fp32"):
        assert time.monotonic() < give_up
        await asyncio.sleep(0.1)


async def test_one_item_and_a_batch_of_64_are_answered_right(backend: OpenInference) -> None:
    for rows in (1, 64):
        index = np.arange(rows * 3).reshape(rows, 3) % 100
        check(await backend(lookup(index)), index)


async def test_each_version_and_variant_answers_for_itself(backend: OpenInference) -> None:
    index = np.array([[10, 20]])
    for (number, variant), scale in SCALES.items():
        response = await backend(lookup(index, version=number, variant=variant))
        check(response, index, scale)
        assert (response.version, response.variant) == (number, variant)


async def test_outputs_come_in_the_order_asked_for(backend: OpenInference) -> None:
    for names in (("total",), ("total", "rows"), ("rows", "total")):
        response = await backend(lookup(np.array([[1, 2]]), outputs=names))
        assert tuple(tensor.name for tensor in response.outputs) == names


async def test_requests_share_batches_and_one_that_the_model_chokes_on_fails_alone(
    backend: OpenInference,
) -> None:
    rng = np.random.default_rng(7)
    indices = [rng.integers(0, 100, (int(rng.integers(1, 65)), int(rng.integers(1, 4)))) for _ in range(96)]
    requests = [lookup(index) for index in indices]
    requests[50] = lookup(np.array([[1000]]))
    answers = await asyncio.gather(*map(backend, requests), return_exceptions=True)
    assert isinstance(answers[50], EndpointFailed)
    assert "the model failed" in str(answers[50])
    for position, answer in enumerate(answers):
        if position != 50:
            assert isinstance(answer, InferResponse)
            check(answer, indices[position])


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (Tensor.of("index", "INT64", np.zeros((2, 2, 2))), "unexpected shape for input 'index'"),
        (Tensor.of("index", "INT64", np.zeros((65, 1))), "batch-size must be <= 64"),
        (Tensor.of("index", "INT32", np.zeros((1, 1))), "data-type is 'INT32'"),
        (Tensor.of("other", "INT64", np.zeros((1, 1))), "unexpected inference input 'other'"),
        (Tensor("index", "INT64", (1, 2), b"short"), "input byte size mismatch"),
    ],
)
async def test_a_tensor_that_does_not_fit_is_rejected_in_tritons_words(
    backend: OpenInference, tensor: Tensor, says: str
) -> None:
    with pytest.raises(RejectedByBackend, match=says) as raised:
        await backend(lookup(np.array([[1]]), inputs=(tensor,)))
    assert "id_unknown" not in str(raised.value)


async def test_a_model_that_the_engine_does_not_hold_fails_the_endpoint(backend: OpenInference) -> None:
    with pytest.raises(EndpointFailed, match="unknown model"):
        await backend(lookup(np.array([[1]]), model="missing"))
    assert not await backend.is_ready("missing", "1", "fp32")
    assert not await backend.is_ready("lookup", "9", "fp32")
    assert not await backend.is_ready("lookup", "2", "int8")
    assert await backend.is_ready("lookup", "2", "fp32")


async def test_callers_who_leave_do_not_disturb_the_others(server: Running, backend: OpenInference) -> None:
    """Were their calls cancelled, the server would end sooner or later: SIGSEGV."""
    rng = np.random.default_rng(3)
    index = np.arange(64)[:, None]

    async def impatient(seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                check(await backend(lookup(index, deadline=time.monotonic() + seconds)), index)
        except TimeoutError:
            return False
        return True

    begun = time.monotonic()
    await asyncio.gather(*(impatient(30.0) for _ in range(16)))
    longest = 2 * (time.monotonic() - begun)
    stayed = 0
    for _ in range(100):
        stayed += sum(await asyncio.gather(*(impatient(longest * float(rng.random())) for _ in range(16))))
    assert 0 < stayed < 1600
    check(await backend(lookup(index)), index)
    assert server.process.poll() is None


async def test_a_model_whose_process_is_killed_fails_though_it_says_ready_and_can_be_healed(
    server: Running, backend: OpenInference
) -> None:
    index = np.array([[1, 2]])
    for pid in stubs(server):
        os.kill(pid, signal.SIGKILL)
    for variant in ("fp32", "int8"):
        with pytest.raises(EndpointFailed, match="not healthy"):
            await backend(lookup(index, variant=variant))
        assert await backend.is_ready("lookup", "1", variant)
        assert await backend.heal("lookup", variant)
    check(await backend(lookup(index)), index)
    check(await backend(lookup(index, variant="int8")), index, SCALES["1", "int8"])


async def test_a_process_killed_in_flight_fails_its_requests(server: Running, backend: OpenInference) -> None:
    index = np.array([[1, 2]])
    for pid in stubs(server):
        os.kill(pid, signal.SIGSTOP)
    asked = asyncio.ensure_future(backend(lookup(index)))
    await asyncio.sleep(0.2)
    for pid in stubs(server):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(EndpointFailed, match="not healthy"):
        await asked
    assert await backend.heal("lookup", "fp32")
    check(await backend(lookup(index)), index)


async def test_a_killed_server_fails_what_is_in_flight_and_is_unreachable_until_it_is_back(
    tmp_path: Path,
) -> None:
    engine = Engine(tmp_path)
    backend = engine.backend()
    index = np.array([[1, 2]])
    with Running(engine.launch) as server:
        check(await backend(lookup(index)), index)
        for pid in stubs(server):
            os.kill(pid, signal.SIGSTOP)
        asked = asyncio.ensure_future(backend(lookup(index)))
        await asyncio.sleep(0.2)
        server.kill()
        with pytest.raises(EndpointFailed):
            await asked
        await until_unreachable(backend, lookup(index))
        assert not await backend.is_ready("lookup", "1", "fp32")
    with Running(engine.launch):
        await until_ready(backend)
        check(await backend(lookup(index)), index)
    await backend.aclose()
