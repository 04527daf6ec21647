"""Builds the project's images from its own Dockerfiles."""

import json
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import docker
from docker.errors import BuildError
from docker.utils import tar

from gateway import __version__
from tests.docker.engine import Engine
from tests.serving import ROOT, VENVS

DOCKERFILES: Mapping[str, str] = {
    "torchserve": "services/torchserve/Dockerfile",  # the longest first
    "models": "models/Dockerfile",
    "gateway": "gateway/Dockerfile",
    "triton": "services/tensorrt/Dockerfile",
    "tfserving": "services/tfserving/Dockerfile",
}
"""By the name of the image."""
COMPOSE = (
    str(VENVS / "dev" / "bin" / "docker-compose"),
    *("--file", str(ROOT / "docker-compose.yml"), "--env-file", os.devnull),
)
"""Without the settings of a developer's own .env."""
REVISION = "0123456789abcdef"
"""The commit that the images say they are of."""


def image(name: str) -> str:
    """The name and the tag under which docker-compose.yml has it."""
    return f"inferway/{name}:{__version__}"


def build_all(engine: Engine) -> None:
    """Build every image, two at a time: one installs while the other waits."""
    arguments = _arguments()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: _build(engine.url, name, arguments[DOCKERFILES[name]]), DOCKERFILES))


def _arguments() -> Mapping[str, Mapping[str, str]]:
    """What docker-compose.yml gives to each Dockerfile."""
    environment = {**os.environ, "INFERWAY_REVISION": REVISION}
    argv = [*COMPOSE, "config", "--format=json"]
    services = json.loads(subprocess.check_output(argv, env=environment))["services"].values()
    builds = [service["build"] for service in services if "build" in service]
    return {build["dockerfile"]: build["args"] for build in builds}


def _build(url: str, name: str, arguments: Mapping[str, str]) -> None:
    dockerfile = DOCKERFILES[name]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    if name != "models":  # this builder sends all that is not excluded, and no other copies from there
        patterns.append("build")
    client = docker.DockerClient(base_url=url, timeout=600)
    try:
        with tar(str(ROOT), exclude=patterns, dockerfile=(dockerfile, None)) as context:
            client.images.build(
                fileobj=context,
                custom_context=True,
                dockerfile=dockerfile,
                buildargs=dict(arguments),
                tag=image(name),
                rm=True,
            )
    except BuildError as error:
        log = "".join(str(line.get("stream", "")) for line in error.build_log)
        raise AssertionError(f"{dockerfile}: {error}\n{log[-4000:]}") from error
    finally:
        client.close()
