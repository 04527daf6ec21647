"""The TorchServe backend and our handler against the real TorchServe, in `.venvs/torchserve`."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import yaml

from gateway.backends.torchserve import TorchServe
from gateway.contract import Contract
from gateway.errors import (
    EndpointBusy,
    EndpointFailed,
    RejectedByBackend,
    VersionNotFound,
)
from gateway.inference import InferRequest, InferResponse, Tensor, split_bytes
from services.launch import Running, free_port
from services.torchserve.run import Ports, launch
from tests.serving import until_unreachable

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venvs" / "torchserve"
HANDLER = ROOT / "services" / "torchserve"
RECOVERY_SECONDS = 30.0

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not VENV.exists(), reason="needs .venvs/torchserve"),
]

# Looks rows of a table up: an index beyond the table passes every check of the contract, and then raises.
NETWORK = """
import torch

class Lookup(torch.nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(100, dtype=torch.float32) * scale)

    def forward(self, index: torch.Tensor):
        rows = torch.nn.functional.embedding(index, self.table.unsqueeze(1)).squeeze(-1)
        return rows, rows.sum(dim=1, keepdim=True)

for version, scale in ((1, 0.5), (2, 2.0)):
    torch.jit.script(Lookup(scale)).save(f"lookup_v{version}.pt")
"""
VERSION = f"{{variants: {{fp32: {{checkpoint: w, sha256: '{'0' * 64}'}}}}}}"
MODEL_YAML = f"""
name: lookup
max_batch_size: 64
inputs: [{{name: index, datatype: INT64, shape: [-1]}}]
outputs: [{{name: rows, datatype: FP32, shape: [-1]}}, {{name: total, datatype: FP32, shape: [1]}}]
default_version: "1"
versions: {{"1": {VERSION}, "2": {VERSION}}}
"""
# Answers with the number of columns that it saw, and a sum that padding does not change.
PADDED_NETWORK = """
import torch

class Padded(torch.nn.Module):
    def forward(self, tokens: torch.Tensor):
        columns = torch.full([tokens.shape[0], 1], float(tokens.shape[1]))
        return torch.where(tokens == 7, 0, tokens).sum(dim=1, keepdim=True).float(), columns

torch.jit.script(Padded()).save("padded.pt")
"""
PADDED_YAML = f"""
name: padded
max_batch_size: 64
inputs: [{{name: tokens, datatype: INT64, shape: [-1], padded: {{value: 7, maximum: 100}}}}]
outputs: [{{name: total, datatype: FP32, shape: [1]}}, {{name: columns, datatype: FP32, shape: [1]}}]
default_version: "1"
versions: {{"1": {VERSION}}}
"""
OWN_HANDLER = """
import time

def handle(data, context):
    if data is None:
        return None
    if any(b"sleep" in bytes(row.get("data", b"")) for row in data):
        time.sleep(3)
    return [bytes(row.get("data", b""))[::-1] for row in data]
"""
OWN_CONFIG = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 1\nmaxBatchDelay: 0\njobQueueSize: 4\n"


def contract(text: str) -> Contract:
    return Contract.model_validate(yaml.safe_load(text))


CONTRACTS = {
    "lookup": contract(MODEL_YAML),
    "missing": contract(MODEL_YAML),
    "padded": contract(PADDED_YAML),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a model with a contract, and a team's own archive."""
    folder = tmp_path_factory.mktemp("store")
    sources = tmp_path_factory.mktemp("sources")
    (sources / "network.py").write_text(NETWORK + PADDED_NETWORK)
    (sources / "own.py").write_text(OWN_HANDLER)
    (sources / "own.yaml").write_text(OWN_CONFIG)
    subprocess.run([VENV / "bin" / "python", "network.py"], cwd=sources, check=True)
    for name, version, network, text in (
        ("lookup", "2", "lookup_v2.pt", MODEL_YAML),
        ("lookup", "1", "lookup_v1.pt", MODEL_YAML),
        ("padded", "1", "padded.pt", PADDED_YAML),
    ):
        (sources / "model.yaml").write_text(text)
        archive(
            sources,
            folder,
            *("--model-name", name, "--version", version, "--serialized-file", network),
            *("--handler", HANDLER / "handler.py", "--extra-files", "model.yaml"),
            *("--config-file", HANDLER / "model-config.yaml"),
        )
        if version == "2":
            (folder / "lookup.mar").rename(folder / "lookup_v2.mar")
    own = ("--model-name", "own", "--version", "7", "--handler", "own.py", "--config-file", "own.yaml")
    archive(sources, folder, *own)
    return folder


def archive(sources: Path, out: Path, *arguments: str | Path) -> None:
    program = VENV / "bin" / "torch-model-archiver"
    subprocess.run([program, "--export-path", out, *arguments], cwd=sources, check=True)


class Engine:
    """A running TorchServe."""

    def __init__(self, store: Path, run_dir: Path, *models: str) -> None:
        self.ports = Ports(*(free_port() for _ in range(5)))
        self.launch = launch(store=store, models=models, run_dir=run_dir, venv=VENV, ports=self.ports)
        self.server = Running(self.launch)

    def worker_pid(self, model: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.management, timeout=5)
        connection.request("GET", f"/models/{model}")
        (entry,) = json.loads(connection.getresponse().read())
        connection.close()
        return int(entry["workers"][0]["pid"])

    def backend(self) -> TorchServe:
        return TorchServe(
            self.launch.addresses["grpc"],
            management_address=self.launch.addresses["management_grpc"],
            contracts=CONTRACTS,
            max_request_bytes=64 * 1024 * 1024,
        )


@pytest.fixture(scope="module")
def engine(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(store, tmp_path_factory.mktemp("ts"), "lookup", "padded", "own")
    with engine.server:
        yield engine


@pytest_asyncio.fixture
async def backend(engine: Engine) -> AsyncIterator[TorchServe]:
    backend = engine.backend()
    yield backend
    await backend.aclose()


def lookup(index: np.ndarray, *, name: str = "index", **changes: Any) -> InferRequest:
    fields: dict[str, Any] = {
        "model": "lookup",
        "inputs": (Tensor.of(name, "INT64", index),),
        "deadline": time.monotonic() + 30,
        "version": "1",
        "variant": "fp32",
    }
    return InferRequest(**{**fields, **changes})


def own(payload: bytes, version: str = "") -> InferRequest:
    inputs = (Tensor.of_bytes("data", (1,), [payload]),)
    return InferRequest("own", inputs, time.monotonic() + 30, version=version)


def check(response: InferResponse, index: np.ndarray, scale: float = 0.5) -> None:
    rows, total = (tensor.numpy() for tensor in response.outputs)
    assert rows.tolist() == (index * scale).tolist()
    assert total.tolist() == (index * scale).sum(axis=1, keepdims=True).tolist()


async def until_ready(backend: TorchServe, model: str, version: str, variant: str) -> float:
    begun = time.monotonic()
    while not await backend.is_ready(model, version, variant):
        assert time.monotonic() - begun < RECOVERY_SECONDS
        await asyncio.sleep(0.1)
    return time.monotonic() - begun


async def test_one_item_and_a_batch_of_64_are_answered_right(backend: TorchServe) -> None:
    for rows in (1, 64):
        index = np.arange(rows * 3).reshape(rows, 3) % 100
        check(await backend(lookup(index)), index)


async def test_outputs_come_in_the_order_asked_for(backend: TorchServe) -> None:
    response = await backend(lookup(np.array([[1, 2]]), outputs=("total",)))
    (total,) = response.outputs
    assert (total.name, total.numpy().tolist()) == ("total", [[1.5]])


async def test_each_version_answers_for_itself(backend: TorchServe) -> None:
    index = np.array([[10, 20]])
    check(await backend(lookup(index, version="1")), index, scale=0.5)
    check(await backend(lookup(index, version="2")), index, scale=2.0)


async def test_requests_of_many_shapes_share_batches_and_one_bad_item_fails_alone(
    backend: TorchServe,
) -> None:
    rng = np.random.default_rng(7)
    indices = [rng.integers(0, 100, (int(rng.integers(1, 65)), int(rng.integers(1, 4)))) for _ in range(96)]
    requests = [lookup(index) for index in indices]
    wrong_bytes, wrong_index = 40, 50
    requests[wrong_bytes] = lookup(indices[0], inputs=(Tensor("index", "INT64", (1, 1), b"short"),))
    requests[wrong_index] = lookup(np.array([[1000]]))
    answers = await asyncio.gather(*map(backend, requests), return_exceptions=True)
    bad = {wrong_bytes: answers[wrong_bytes], wrong_index: answers[wrong_index]}
    assert isinstance(bad[wrong_bytes], RejectedByBackend)
    assert "expected 8 bytes for INT64 [1, 1], got 5" in str(bad[wrong_bytes])
    assert isinstance(bad[wrong_index], EndpointFailed)
    for position, answer in enumerate(answers):
        if position not in bad:
            assert isinstance(answer, InferResponse)
            check(answer, indices[position])


async def test_items_of_different_lengths_are_padded_to_the_longest_of_their_batch(
    backend: TorchServe,
) -> None:
    rng = np.random.default_rng(5)
    tokens = [rng.integers(8, 1000, (int(rng.integers(1, 5)), int(rng.integers(1, 101)))) for _ in range(96)]
    requests = [lookup(one, model="padded", name="tokens") for one in tokens]
    grown = 0
    for sent, response in zip(tokens, await asyncio.gather(*map(backend, requests)), strict=True):
        total, columns = (tensor.numpy() for tensor in response.outputs)
        assert total.tolist() == sent.sum(axis=1, keepdims=True).tolist()
        assert sent.shape[1] <= columns.min() == columns.max() <= 100
        grown += int(columns.min()) > sent.shape[1]
    assert grown
    with pytest.raises(RejectedByBackend, match=r"at most 100 in a row, got \[1, 101\]"):
        await backend(lookup(np.ones((1, 101)), model="padded", name="tokens"))


async def test_a_model_that_the_engine_does_not_hold_fails_the_endpoint(backend: TorchServe) -> None:
    with pytest.raises(EndpointFailed, match="Model not found: missing"):
        await backend(lookup(np.array([[1]]), model="missing"))
    assert not await backend.is_ready("missing", "1", "fp32")
    assert not await backend.is_ready("lookup", "9", "fp32")
    assert await backend.is_ready("lookup", "2", "fp32")


async def test_a_teams_own_archive_gets_and_gives_bytes_unchanged(backend: TorchServe) -> None:
    payload = bytes(range(256)) * 10
    (output,) = (await backend(own(payload, version="7"))).outputs
    assert list(split_bytes(output)) == [payload[::-1]]
    assert await backend.is_ready("own", "", "")
    with pytest.raises(VersionNotFound):
        await backend(own(payload, version="9"))


async def test_a_full_queue_is_busy_and_not_broken(backend: TorchServe) -> None:
    answers = await asyncio.gather(
        *(backend(own(b"sleep" if i == 0 else b"next")) for i in range(12)), return_exceptions=True
    )
    busy = [answer for answer in answers if isinstance(answer, EndpointBusy)]
    assert busy
    assert len(busy) + sum(isinstance(answer, InferResponse) for answer in answers) == 12


async def test_callers_who_leave_around_the_reply_do_not_kill_the_worker(
    engine: Engine, backend: TorchServe
) -> None:
    rng = np.random.default_rng(3)
    before = engine.worker_pid("lookup")
    index = np.arange(64)[:, None]

    async def impatient(seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                check(await backend(lookup(index)), index)
        except TimeoutError:
            return False
        return True

    begun = time.monotonic()
    await asyncio.gather(*(impatient(30.0) for _ in range(16)))
    longest = 2 * (time.monotonic() - begun)
    stayed = 0
    for _ in range(30):
        stayed += sum(await asyncio.gather(*(impatient(longest * float(rng.random())) for _ in range(16))))
        # Or the queue would be full soon.
        await asyncio.gather(*backend._calls._calls, return_exceptions=True)
    assert 0 < stayed < 480
    check(await backend(lookup(index)), index)
    assert engine.worker_pid("lookup") == before


async def test_a_worker_killed_in_flight_fails_its_requests_and_comes_back(
    engine: Engine, backend: TorchServe
) -> None:
    asked = asyncio.ensure_future(backend(own(b"sleep")))
    await asyncio.sleep(0.5)
    os.kill(engine.worker_pid("own"), signal.SIGKILL)
    with pytest.raises(EndpointFailed, match="Worker died"):
        await asked
    assert not await backend.is_ready("own", "", "")
    await until_ready(backend, "own", "", "")
    (output,) = (await backend(own(b"abc"))).outputs
    assert list(split_bytes(output)) == [b"cba"]


async def test_a_killed_server_fails_what_is_in_flight_and_is_unreachable_until_it_is_back(
    store: Path, tmp_path: Path
) -> None:
    engine = Engine(store, tmp_path / "ts", "own")
    backend = engine.backend()
    with engine.server:
        await backend(own(b"abc"))  # connected
        asked = asyncio.ensure_future(backend(own(b"sleep")))
        await asyncio.sleep(0.5)
        engine.server.kill()
        with pytest.raises(EndpointFailed):
            await asked
        await until_unreachable(backend, own(b"abc"))
        assert not await backend.is_ready("own", "", "")
    with Running(engine.launch):
        await until_ready(backend, "own", "", "")
        (output,) = (await backend(own(b"abc"))).outputs
        assert list(split_bytes(output)) == [b"cba"]
    await backend.aclose()
