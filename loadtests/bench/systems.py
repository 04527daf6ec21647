"""The systems that are compared: what runs, and how it is asked."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from loadtests.bench.closed_loop import LoadFailed
from loadtests.bench.http_client import ask_each
from loadtests.bench.peer_settings import PEERS
from loadtests.bench.sources import BINARY, JSON, OIP_BINARY, OIP_JSON, Encoding
from loadtests.haproxy import haproxy_version, running_haproxy
from services.launch import Launch, LaunchError, Running, free_port
from tests.load import distinct_images
from tests.serving import BUILT, MODEL, ROOT, VENVS, Engine, running_gateway

ONNX = BUILT / "onnx" / MODEL / "1" / "model.onnx"
OIP: Mapping[str, Encoding] = {JSON: OIP_JSON, BINARY: OIP_BINARY}
START_SECONDS = 300.0
"""Ray Serve starts a dozen processes: ten seconds on two free cores, minutes on busy ones."""
CACHE_OFF: Mapping[str, Any] = {"memory_bytes": 0}


@dataclass(frozen=True, slots=True)
class System:
    """Something that answers, with all that it needs running.

    Attributes:
        title: its name.
        address: host:port of its HTTP.
        encodings: by name, how it is asked there.
        pids: of its processes, by the name under which their CPU time is reported.
        version: of what the title names.
        settings: what was switched on, for the page.
        grpc: host:port, where it speaks OIP over gRPC.
        metadata: of each gRPC call.
    """

    title: str
    address: str
    encodings: Mapping[str, Encoding]
    pids: Mapping[str, int]
    version: str
    settings: str
    grpc: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


@contextmanager
def running_peer(name: str, folder: Path) -> Iterator[System]:
    """One of `PEERS`, in its own environment.

    Raises:
        LaunchError: its environment is not there, or it did not start; the text names it.
    """
    peer = PEERS[name]
    python = VENVS / f"bench-{name}" / "bin" / "python"
    if not python.exists():
        raise LaunchError(f"{peer.title} has no environment: `make env-bench-{name}` makes it")
    folder.mkdir(parents=True)
    port = free_port()
    address = f"127.0.0.1:{port}"
    encoding = peer.encodings[JSON]
    image = distinct_images(1)
    launch = Launch(
        name=peer.title,
        argv=[str(python), *peer.argv(port, folder)],
        is_ready=lambda: _answers(address, encoding.requests(image)[0]),
        log=folder / f"{name}.log",
        env={
            "BENCH_ONNX": str(ONNX),
            "PATH": f"{python.parent}:{os.environ.get('PATH', os.defpath)}",
            "TMPDIR": str(folder),
            **peer.env,
        },
        cwd=folder,
        timeout_seconds=START_SECONDS,
    )
    with Running(launch) as running:
        pids = {peer.title: running.pid}
        yield System(peer.title, address, peer.encodings, pids, _version(name, peer.package), peer.settings)


def _answers(address: str, request: bytes) -> bool:
    async def ask() -> None:
        async with asyncio.timeout(5.0):
            await ask_each(address, [request])

    with suppress(OSError, LoadFailed, TimeoutError, asyncio.IncompleteReadError):
        asyncio.run(ask())
        return True
    return False


def _version(environment: str, package: str) -> str:
    """Of a package in an environment that is not ours."""
    sites = [str(site) for site in (VENVS / f"bench-{environment}").glob("lib/python3*/site-packages")]
    return next(found.version for found in distributions(name=package, path=sites))


def triton_system(triton: Engine) -> System:
    """Triton, asked directly."""
    address = triton.running.launch.addresses["http"]
    with urllib.request.urlopen(f"http://{address}/v2", timeout=5) as reply:
        version = json.load(reply)["version"]
    return System(
        "Triton",
        address,
        OIP,
        {"Triton": triton.running.pid},
        version,
        "python backend with ONNX Runtime, one instance, `dynamic_batching` without delay",
        triton.running.launch.addresses["grpc"],
    )


@contextmanager
def running_proxy(triton: Engine, folder: Path) -> Iterator[System]:
    """HAProxy in front of Triton's HTTP."""
    direct = triton_system(triton)
    port = int(direct.address.rpartition(":")[2])
    with running_haproxy(folder, [port], is_grpc=False) as proxy:
        yield replace(
            direct,
            title="HAProxy, Triton behind",
            address=proxy.address,
            pids={"HAProxy": proxy.running.pid, **direct.pids},
            version=haproxy_version(),
            settings="`leastconn`, `http-reuse always`",
            grpc="",
        )


@contextmanager
def running_inferway(
    folder: Path,
    endpoint: Mapping[str, Any],
    *,
    title: str,
    pids: Mapping[str, int],
    cache: Mapping[str, Any] = CACHE_OFF,
    more: Mapping[str, Any] | None = None,
) -> Iterator[System]:
    """Our gateway as users run it, with metrics and API keys, in front of one endpoint.

    Args:
        folder: of its own; made.
        endpoint: as `inferway.yaml` names it.
        title: the system's.
        pids: of the engine behind it.
        cache: the section; as given, the memory tier keeps nothing.
        more: other sections.
    """
    folder.mkdir(parents=True)
    file = folder / "keys.yaml"
    argv = [sys.executable, "-m", "gateway.keys", "new", "bench", "--file", str(file)]
    key = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    settings = {"endpoints": {"engine": dict(endpoint)}, "cache": dict(cache), "keys": {"file": str(file)}}
    headers = {"authorization": f"Bearer {key}"}
    with running_gateway(folder, {**settings, **(more or {})}) as gateway:
        yield System(
            title,
            gateway.http,
            {name: replace(encoding, headers=headers) for name, encoding in OIP.items()},
            {"gateway": gateway.running.pid, **pids},
            "this commit",
            "one process, metrics and API keys on, cache off",
            gateway.grpc,
            tuple(headers.items()),
        )
