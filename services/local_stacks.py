"""What each local stack is made of; the gateway's own settings say where its engines are."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from gateway.backends.repository import check_built
from gateway.contract import Contract
from gateway.loading import load_contracts, load_settings
from gateway.pools import pool_endpoints
from gateway.settings import EndpointSettings, Settings
from services import prometheus, redis
from services.launch import Launch
from services.local_gateway import is_up
from services.tensorrt import run as triton
from services.tfserving import run as tfserving
from services.torchserve import run as torchserve

ROOT = Path(__file__).parents[1]
CONFIGURATIONS: Mapping[str, str] = {"embedded": "inferway.yaml", "full": "inferway.full.yaml"}
BUILT = ROOT / "build" / "models"
VENVS = ROOT / ".venvs"
LOOPBACK = "127.0.0.1"

Make = Callable[[], Launch]
"""Prepares a part. It may raise LaunchError, OSError or ValueError; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What to start.

    Attributes:
        companions: what the gateway can do without.
        engines: the model servers; a stack that has some makes sense while one of them runs.
        gateway: comes when the others are ready; without it there is no stack.
        first_request: a command that asks it for a real answer.
    """

    companions: Mapping[str, Make]
    engines: Mapping[str, Make]
    gateway: Launch
    first_request: str


def describe(name: str, run: Path) -> Stack:
    """The stack of that name, `embedded` or `full`, with logs and working folders under `run`.

    Raises:
        gateway.configuration.ConfigurationError: its configuration cannot be used.
    """
    configuration = ROOT / CONFIGURATIONS[name]
    settings = load_settings(configuration)
    contracts = load_contracts(settings, configuration.parent)
    pools = pool_endpoints(settings, contracts)  # the gateway would refuse them as well, with all engines up
    check_built(settings, contracts, pools, configuration.parent)
    gateway = _gateway(settings, configuration, run / "gateway")
    at = {endpoint.backend: endpoint for endpoint in settings.endpoints.values()}
    engines: dict[str, Make] = {}
    if "torchserve" in at:
        engines["torchserve"] = partial(_torchserve, at["torchserve"], run / "torchserve")
    if "triton" in at:
        engines["triton"] = partial(_triton, at["triton"], run / "triton")
    if "tfserving" in at:
        engines["tfserving (stand-in)"] = partial(_tfserving, at["tfserving"], run / "tfserving")
    companions: dict[str, Make] = {}
    if settings.cache.redis.url:
        port = urlsplit(settings.cache.redis.url).port or redis.PORT
        companions["redis"] = partial(redis.launch, run_dir=run / "redis", port=port)
    if engines:
        targets = {
            "gateway": gateway.addresses["admin"],
            "torchserve": f"{LOOPBACK}:{torchserve.Ports().metrics}",
            "triton": f"{LOOPBACK}:{triton.METRICS_PORT}",
        }
        companions["prometheus"] = partial(prometheus.launch, run_dir=run / "prometheus", targets=targets)
    return Stack(companions, engines, gateway, _first_request(contracts, gateway.addresses["http"]))


def _first_request(contracts: Mapping[str, Contract], address: str) -> str:
    """A command that sends the first model's example, or asks about what is there."""
    for name, contract in contracts.items():
        if not contract.example or not (contract.folder / "transform.py").exists():
            return f"curl http://{address}/v2/models/{name}"
        example = os.path.relpath(contract.folder / contract.example, ROOT)
        return f"curl -T {example} http://{address}/predictions/{name}"
    return f"curl http://{address}/v2"


def _gateway(settings: Settings, configuration: Path, run_dir: Path) -> Launch:
    server = settings.server
    host = _reachable(server.host)
    addresses = {
        "http": f"{host}:{server.http_port}",
        "grpc": f"{host}:{server.grpc_port}",
        "admin": f"{_reachable(server.admin_host)}:{server.admin_port}",
    }
    return Launch(
        name="gateway",
        argv=[sys.executable, "-m", "gateway", "--config", str(configuration)],
        is_ready=partial(is_up, addresses),
        log=run_dir / "gateway.log",
        cwd=ROOT,
        timeout_seconds=60.0,
        addresses=addresses,
    )


def _torchserve(endpoint: EndpointSettings, run_dir: Path) -> Launch:
    store = BUILT / "torchserve"
    return torchserve.launch(
        store=store,
        models=_built(store, "*.mar"),
        run_dir=run_dir,
        venv=VENVS / "torchserve",
        ports=torchserve.Ports(
            grpc=_port(endpoint.address), management_grpc=_port(endpoint.management_address)
        ),
    )


def _triton(endpoint: EndpointSettings, run_dir: Path) -> Launch:
    repository = BUILT / "triton"
    models = [Path(name).parent.name for name in _built(repository, "*/config.pbtxt")]
    return triton.launch(
        repository=repository, models=models, run_dir=run_dir, grpc_port=_port(endpoint.address)
    )


def _tfserving(endpoint: EndpointSettings, run_dir: Path) -> Launch:
    return tfserving.launch(
        models_config=BUILT / "tfserving" / "models.config",
        models_root=BUILT,
        run_dir=run_dir,
        port=_port(endpoint.address),
        venv=VENVS / "tensorflow",
    )


def _built(folder: Path, pattern: str) -> list[str]:
    """What `make models` wrote, relative to the folder; for the name of an archive, without its ending."""
    found = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"no model in {folder.relative_to(ROOT)}: run `make models`")
    return found


def _port(address: str | None) -> int:
    return int((address or "").rpartition(":")[2])


def _reachable(host: str) -> str:
    """Where a client on this machine finds a server that listens on this host."""
    return LOOPBACK if host in {"0.0.0.0", "::", ""} else host
