"""A real engine with one model, and a gateway in front of it, for as long as it is measured."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from models.evaluation.rest import PATIENCE_SECONDS
from models.evaluation.subject import ROOT, Subject
from services import prometheus
from services.launch import Launch, Running, free_port
from services.tensorrt import run as triton
from services.tfserving import run as tfserving
from services.torchserve import run as torchserve

BUILT = ROOT / "build" / "models"
VENVS = ROOT / ".venvs"
LOOPBACK = "127.0.0.1"


@contextmanager
def gateway(subject: Subject, engine: str, names: Sequence[str], folder: Path) -> Iterator[str]:
    """The host:port of a gateway's REST, with that engine behind it.

    Args:
        subject: the model.
        engine: torchserve, triton, tfserving or onnxruntime.
        names: the engine's names of the variants to load.
        folder: for configuration and logs.

    Raises:
        services.launch.LaunchError: one of them does not start.
    """
    if engine == "onnxruntime":
        with Running(
            _gateway(subject, {"backend": engine, "repository": str(BUILT / "onnx")}, folder)
        ) as running:
            yield running.launch.addresses["http"]
        return
    launch, endpoint = {"torchserve": _torchserve, "triton": _triton, "tfserving": _tfserving}[engine](
        names, folder
    )
    with Running(launch), Running(_gateway(subject, {"backend": engine, **endpoint}, folder)) as running:
        yield running.launch.addresses["http"]


def _gateway(subject: Subject, endpoint: Mapping[str, Any], folder: Path) -> Launch:
    ports = {name: free_port() for name in ("http_port", "grpc_port", "admin_port")}
    settings = {
        "server": ports,
        "log": {"level": "warning"},
        "cache": {"memory_bytes": 0},  # every answer is to be the engine's own
        "balancing": {
            "attempt_timeout_seconds": PATIENCE_SECONDS,
            "warm_up_timeout_seconds": PATIENCE_SECONDS,
        },
        "models": [str(subject.folder)],
        "endpoints": {"engine": dict(endpoint)},
        "pools": [{"model": subject.name, "endpoints": ["engine"]}],
    }
    path = folder / "inferway.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Launch(
        name="gateway",
        argv=[sys.executable, "-m", "gateway", "--config", str(path)],
        is_ready=partial(prometheus.answers, LOOPBACK, ports["http_port"], "/v2/health/ready"),
        log=folder / "gateway.log",
        cwd=ROOT,
        addresses={"http": f"{LOOPBACK}:{ports['http_port']}"},
    )


def _torchserve(names: Sequence[str], folder: Path) -> tuple[Launch, Mapping[str, str]]:
    ports = torchserve.Ports(*(free_port() for _ in range(5)))
    launch = torchserve.launch(
        store=BUILT / "torchserve", models=names, run_dir=folder, venv=VENVS / "torchserve", ports=ports
    )
    address, management = (f"{LOOPBACK}:{port}" for port in (ports.grpc, ports.management_grpc))
    return launch, {"address": address, "management_address": management}


def _triton(names: Sequence[str], folder: Path) -> tuple[Launch, Mapping[str, str]]:
    http, grpc, metrics = (free_port() for _ in range(3))
    launch = triton.launch(
        repository=BUILT / "triton", models=names, run_dir=folder, venv=VENVS / "triton",
        http_port=http, grpc_port=grpc, metrics_port=metrics,
    )  # fmt: skip
    return launch, {"address": f"{LOOPBACK}:{grpc}"}


def _tfserving(names: Sequence[str], folder: Path) -> tuple[Launch, Mapping[str, str]]:
    entries = [
        f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" '
        "model_version_policy { all { } } }"
        for name in names
    ]
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}\n", encoding="utf-8")
    port = free_port()
    launch = tfserving.launch(
        models_config=config,
        models_root=BUILT / "tfserving",
        run_dir=folder,
        port=port,
        venv=VENVS / "tensorflow",
    )
    return launch, {"address": f"{LOOPBACK}:{port}"}
