"""Images that stand for those of registries, which cannot be pulled here, under their real names.

One Debian root file system, made once and kept in build/docker, holds what all of them need: Python as in
`python:3.11-slim-bookworm`, and Debian's own Redis, HAProxy, Prometheus and Alertmanager, which are the real
programs. NVIDIA's image is stood for by the real Triton of `.venvs/triton`, and `tensorflow/serving` by this
project's stand-in; both environments are mounted by tests/docker/compose.yml, since copying takes minutes.
Packages come from a folder of wheels that this machine's pip fills: containers need no other configuration
of pip, and the project's own Dockerfiles have none at all.
"""

import io
import subprocess
import tarfile
import threading
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import yaml

from tests.docker.engine import Engine
from tests.serving import ROOT

CACHE = ROOT / "build" / "docker"
DOCKERFILES = Path(__file__).parent / "stand_ins"
BASE = "inferway-test/debian"
PACKAGES = (
    "python3", "python3-venv", "python3-pip", "libpython3.11", "ca-certificates", "busybox",
    "redis-server", "haproxy", "prometheus", "prometheus-alertmanager",
)  # fmt: skip
LEFT_OUT = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/javascript/*",
    "/usr/bin/promtool", "/usr/bin/amtool",
)  # fmt: skip
"""Of those packages, half of their size."""
REQUIREMENTS = ("torchserve", "tensorrt-image", "sbom")
OLDER_PYTHON = ("async-timeout",)
"""What redis-py asks for where Python is older than 3.11.3, as Debian's is."""
PIP = ("python3", "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version=3.11")


def images() -> Mapping[str, str]:
    """The names that docker-compose.yml gives to images of others, by what stands for each."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    arguments = {
        name: value.partition(":-")[2].rstrip("}")
        for service in services.values()
        for name, value in service.get("build", {}).get("args", {}).items()
    }
    return {
        "python": arguments["PYTHON_IMAGE"],
        "triton": arguments["TRITON_IMAGE"],
        "tfserving": arguments["TFSERVING_IMAGE"],
        **{name: services[name]["image"] for name in ("redis", "haproxy", "prometheus", "alertmanager")},
    }


def prepare() -> None:
    """Make what is kept in build/docker, each anew when its list changes: root file system and wheels."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        for part in [pool.submit(_make_debian), pool.submit(_download_wheels)]:
            part.result()


def _make_debian() -> None:
    packages, made_of = ",".join(PACKAGES), "\n".join((*PACKAGES, *LEFT_OUT))
    if _is_stale("debian", made_of):
        argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"]
        argv += [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
        subprocess.run([*argv, "bookworm", str(CACHE / "debian.tar")], check=True)
        _keep("debian", made_of)


def _download_wheels() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        gateway = tomllib.load(file)["project"]["dependencies"]
    constraints = ROOT / "constraints.txt"
    requirements = [ROOT / "requirements" / f"{name}.txt" for name in REQUIREMENTS]
    gateway += OLDER_PYTHON
    wanted = "\n".join([*PIP, *gateway, *(path.read_text() for path in (constraints, *requirements))])
    if _is_stale("wheels", wanted):
        download = [*PIP, "--dest", str(CACHE / "wheels")]
        subprocess.run([*download, "--constraint", str(constraints), *gateway], check=True)
        for path in requirements:
            subprocess.run([*download, "--requirement", str(path)], check=True)
        _keep("wheels", wanted)


def _is_stale(name: str, made_of: str) -> bool:
    """Whether what is kept under the name was made of something else, or is not there."""
    note = CACHE / f"{name}.made-of"
    return not note.exists() or note.read_text() != made_of


def _keep(name: str, made_of: str) -> None:
    (CACHE / f"{name}.made-of").write_text(made_of)


@contextmanager
def served_wheels(address: str) -> Iterator[str]:
    """The wheels over HTTP at an address of this machine; their URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Write no line for each request."""

    server = ThreadingHTTPServer((address, 0), partial(Quiet, directory=str(CACHE / "wheels")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make(engine: Engine, wheels: str) -> None:
    """Import the root file system, and make of it each image that is asked for by name."""
    engine.client.api.import_image_from_file(str(CACHE / "debian.tar"), repository=BASE, tag="latest")
    pip = f"[global]\nno-index = true\nfind-links = {wheels}\ntrusted-host = {engine.gateway}\n"
    services = {str(path.relative_to(ROOT)): path.read_bytes() for path in (ROOT / "services").rglob("*.py")}
    for name, image in images().items():
        dockerfile = f"FROM {BASE}\n{(DOCKERFILES / f'{name}.txt').read_text()}"
        build(engine.client, image, {"Dockerfile": dockerfile.encode(), "pip.conf": pip.encode(), **services})


def build(client: docker.DockerClient, image: str, files: Mapping[str, bytes]) -> None:
    """Build an image from a context of these files."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=image, rm=True)
