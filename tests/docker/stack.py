"""The stack of docker-compose.yml, started as its page says, less what cannot be stood for."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker

from services.launch import free_port
from tests.docker import images
from tests.docker.engine import Engine
from tests.serving import ROOT, VENVS

PROJECT = "inferway-test"
LEFT_OUT = ("grafana",)
"""Its server is in no package that this machine can have; tests/observability checks what it shows."""
COMPOSE = (
    *images.COMPOSE,
    *("--file", str(ROOT / "tests" / "docker" / "compose.yml")),
    *("--project-name", PROJECT, "--project-directory", str(ROOT)),
)


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack.

    Attributes:
        client: of the engine that it runs on.
        http: host:port of the edge's HTTP.
        grpc: host:port of the edge's gRPC.
        prometheus: host:port of Prometheus.
        compose: runs `docker compose` on it, with arguments.
    """

    client: docker.DockerClient
    http: str
    grpc: str
    prometheus: str
    compose: Callable[..., str]

    def containers(self, service: str, *, stopped: bool = False) -> list[Any]:
        """The containers of a service."""
        label = f"com.docker.compose.service={service}"
        found: list[Any] = self.client.containers.list(all=stopped, filters={"label": label})
        return found


def inside(container: Any, url: str) -> str:
    """What a container of ours, that has Python, finds at a URL."""
    code = f"import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode())"
    done = container.exec_run(["python3", "-c", code])
    assert done.exit_code == 0, done.output
    text: str = done.output.decode()
    return text


@contextmanager
def running_stack(engine: Engine, folder: Path) -> Iterator[Stack]:
    """`docker compose up --wait`; afterwards `down`, with the volumes."""
    ports = {name: free_port() for name in ("HTTP_PORT", "GRPC_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT")}
    secrets = folder / "secrets"
    subprocess.run([ROOT / "deploy" / "make-secrets.sh", secrets], check=True)
    environment = {
        **os.environ,
        **{name: str(port) for name, port in ports.items()},
        "DOCKER_HOST": engine.url,
        "SECRETS": str(secrets),
        "STAND_INS": str(VENVS),
        "ENGINE_CPUS": str(min(2, engine.client.info()["NCPU"])),
    }
    services = _compose(environment, "config", "--services").split()
    try:
        _compose(
            environment,
            *("up", "--detach", "--no-build", "--pull=never", "--wait", "--wait-timeout=420"),
            *(service for service in services if service not in LEFT_OUT),
        )
        http, grpc, prometheus = (
            f"127.0.0.1:{ports[name]}" for name in ("HTTP_PORT", "GRPC_PORT", "PROMETHEUS_PORT")
        )
        yield Stack(engine.client, http, grpc, prometheus, partial(_compose, environment))
    finally:
        _compose(environment, "down", "--volumes", "--timeout=20")


def _compose(environment: dict[str, str], *arguments: str) -> str:
    """What the command prints; AssertionError with what it and the containers said, when it fails."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [*COMPOSE, *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    done = run(*arguments)
    if done.returncode:
        logs = run("logs", "--tail=15", "--no-color").stdout
        raise AssertionError(f"{arguments}: {done.stderr[-3000:]}\n{logs[-6000:]}")
    return done.stdout
