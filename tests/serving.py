"""Real servers for the tests: each engine once a session, and gateways in processes of their own."""

import asyncio
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from gateway.app import Gateway
from gateway.backends import Backend
from gateway.errors import EndpointFailed, EndpointUnreachable
from gateway.inference import InferRequest
from models import samples
from models.cnn_mnist.transform import to_inputs
from services import redis
from services.launch import Launch, LaunchError, Running, free_port
from services.tensorrt import run as triton
from services.tfserving import run as tfserving
from services.torchserve import run as torchserve

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "build" / "models"
VENVS = ROOT / ".venvs"
MODEL = "cnn_mnist"
EMBEDDED = {"backend": "onnxruntime", "repository": str(BUILT / "onnx")}
"""The endpoint of the embedded engine, with what `make models` built."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine.

    Attributes:
        running: its process.
        endpoint: as `inferway.yaml` names it.
    """

    running: Running
    endpoint: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StartedGateway:
    """A gateway in a process of its own; each attribute but the first is host:port."""

    running: Running
    http: str
    grpc: str
    admin: str

    def metrics(self) -> str:
        """The page of its metrics."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=5) as page:
            text: str = page.read().decode()
            return text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels."""
        total = 0.0
        for line in self.metrics().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += float(value)
        return total


def _worker_port() -> int:
    """A port below the range that the system draws from: TorchServe's later workers count up from it."""
    for port in range(20000, 30000, 10):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise LaunchError("no free port from 20000 to 30000")


@contextmanager
def running_torchserve(
    folder: Path, models: Sequence[str] = (MODEL,), *, built: Path = BUILT
) -> Iterator[Engine]:
    """The real TorchServe with what `make models` built; `models` are names of its own."""
    ports = torchserve.Ports(
        grpc=free_port(),
        management_grpc=free_port(),
        rest=free_port(),
        management=free_port(),
        metrics=free_port(),
        worker=_worker_port(),
    )
    launch = torchserve.launch(
        store=built / "torchserve", models=models, run_dir=folder, venv=VENVS / "torchserve", ports=ports
    )
    with Running(launch) as running:
        address, management = f"127.0.0.1:{ports.grpc}", f"127.0.0.1:{ports.management_grpc}"
        yield Engine(running, {"backend": "torchserve", "address": address, "management_address": management})


@contextmanager
def running_triton(
    folder: Path,
    models: Sequence[str] = (MODEL,),
    *,
    http_port: int = 0,
    grpc_port: int = 0,
    host: str = "127.0.0.1",
    within: Sequence[str] = (),
    built: Path = BUILT,
) -> Iterator[Engine]:
    """The real Triton with what `make models` built; `models` are names of its own.

    `within` is put in front of its command; it must become the command, as `ip netns exec` does.
    """
    port = grpc_port or free_port()
    launch = triton.launch(
        repository=built / "triton",
        models=models,
        run_dir=folder,
        http_port=http_port or free_port(),
        grpc_port=port,
        metrics_port=free_port(),
        host=host,
        venv=VENVS / "triton",
    )
    with Running(replace(launch, argv=[*within, *launch.argv])) as running:
        yield Engine(running, {"backend": "triton", "address": f"{host}:{port}"})


@contextmanager
def running_tfserving(folder: Path) -> Iterator[Engine]:
    """The stand-in for TF Serving with all that `make models` built."""
    port = free_port()
    launch = tfserving.launch(
        models_config=BUILT / "tfserving" / "models.config",
        models_root=BUILT,
        run_dir=folder,
        port=port,
        venv=VENVS / "tensorflow",
    )
    with Running(launch) as running:
        yield Engine(running, {"backend": "tfserving", "address": f"127.0.0.1:{port}"})


@contextmanager
def running_redis(folder: Path, port: int = 0) -> Iterator[tuple[Running, int]]:
    """The real Redis, and its port."""
    port = port or free_port()
    with Running(redis.launch(run_dir=folder, port=port)) as running:
        yield running, port


@contextmanager
def running_gateway(
    folder: Path, settings: Mapping[str, Any], *, program: Sequence[str] = ("-m", "gateway")
) -> Iterator[StartedGateway]:
    """A gateway with these settings, on free ports.

    `models` and a pool of all endpoints are filled in where the settings leave them out. `program` is what
    Python runs.
    """
    ports = {name: free_port() for name in ("http_port", "grpc_port", "admin_port")}
    whole = {"models": [str(ROOT / "models" / MODEL)], **settings}
    whole.setdefault("pools", [{"model": MODEL, "endpoints": list(whole["endpoints"])}])
    whole["server"] = {**whole.get("server", {}), **ports}
    path = folder / "inferway.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(whole))
    http = f"127.0.0.1:{ports['http_port']}"
    # The HTTP port itself, unless it speaks TLS; the admin port never does.
    ready = (
        f"127.0.0.1:{ports['admin_port']}/readyz" if "tls" in whole["server"] else f"{http}/v2/health/ready"
    )
    launch = Launch(
        name="gateway",
        argv=[sys.executable, "-W", "error", *program, "--config", str(path)],
        is_ready=lambda: answers_200(f"http://{ready}"),
        log=folder / "gateway.log",
        cwd=ROOT,
        timeout_seconds=60.0,
    )
    with Running(launch) as running:
        yield StartedGateway(
            running, http, f"127.0.0.1:{ports['grpc_port']}", f"127.0.0.1:{ports['admin_port']}"
        )


def answers_200(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - http only
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def heldout() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The model's 500 test images, FP32 [500, 28, 28, 1], and their labels."""
    held = samples.read(ROOT / "models" / MODEL / "examples.zip")
    return np.stack([to_inputs(payload)["image"] for payload in held.payloads]), held.labels.astype(np.int64)


async def until_all_ready(gateway: Gateway) -> None:
    """Wait until every endpoint takes requests: one that starts waits for the slow ones for 3 s only."""
    async with asyncio.timeout(60.0):
        while not all(  # noqa: ASYNC110 - no event tells of it
            endpoint.is_ready for endpoint in gateway.serving.endpoints()
        ):
            await asyncio.sleep(0.01)


async def until_unreachable(backend: Backend, request: InferRequest) -> None:
    """Ask a backend whose server was killed until it says so; AssertionError when it never does.

    A call right after the kill may still meet the connection that goes down, and fail as one that was sent.
    """
    give_up = time.monotonic() + 10.0
    while time.monotonic() < give_up:
        try:
            await backend(request)
        except EndpointUnreachable:
            return
        except EndpointFailed:
            await asyncio.sleep(0.1)
    raise AssertionError("it never became unreachable")
