"""A Docker engine of the tests' own: started in a folder, and gone without a trace afterwards.

Docker's daemon leaves a bridge, rules of the packet filter and a changed sysctl behind when it stops; here
they are put back as they were.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import docker

PROGRAMS = ("dockerd", "mmdebstrap", "iptables", "ip6tables", "ip")
FILTERS = ("iptables", "ip6tables")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
START_SECONDS, STOP_SECONDS = 60.0, 120.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine.

    Attributes:
        client: the `docker` package's.
        url: where it listens, for DOCKER_HOST.
        gateway: the address at which its containers reach this machine.
    """

    client: docker.DockerClient
    url: str
    gateway: str


def missing() -> str:
    """Why no engine can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "a Docker engine can be started by root only"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}; `make packages-docker` installs them" if absent else ""


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """An engine with all that it has in `folder`, whose path is short: a socket lies in it."""
    rules = {command: subprocess.check_output([f"{command}-save"]) for command in FILTERS}
    forwarding, links = FORWARDING.read_text(), _links()
    url = f"unix://{folder}/socket"
    argv = [
        "dockerd",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/pid",
        f"--host={url}",
        "--default-ulimit=nofile=20000:20000",
        "--log-level=warn",
    ]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    try:
        client = _connected(url, daemon, folder / "log")
        subnet = ip_network(client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"])
        yield Engine(client, url, str(subnet[1]))
        client.close()
    finally:
        _remove_containers(url)
        daemon.terminate()
        daemon.wait(STOP_SECONDS)
        for link in sorted(_links() - links):
            subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        for command, saved in rules.items():
            _restore(command, saved)
        FORWARDING.write_text(forwarding)
        shutil.rmtree(folder)


def _restore(command: str, saved: bytes) -> None:
    """Put rules back; where there were none at all, the engine's tables stay, and are emptied."""
    for table in ("filter", "nat"):
        for flag in ("-F", "-X"):
            subprocess.run([command, "-t", table, flag], check=True)
    subprocess.run([command, "-P", "FORWARD", "ACCEPT"], check=True)
    subprocess.run([f"{command}-restore"], input=saved, check=True)


def trace() -> dict[str, object]:
    """What an engine changes on a machine, to be compared with what it was."""
    rules = subprocess.check_output(["iptables-save"], text=True).splitlines()
    programs = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    return {
        "links": sorted(_links()),
        "rules": [line for line in rules if line.startswith("-A")],
        "policies": [line.split()[:2] for line in rules if line.startswith(":") and " ACCEPT " not in line],
        "forwarding": FORWARDING.read_text(),
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        "programs": sorted(
            name for name in programs if name.startswith(("dockerd", "docker-proxy", "containerd"))
        ),
    }


def _links() -> set[str]:
    """The machine's network interfaces."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _connected(url: str, daemon: subprocess.Popen[bytes], log: Path) -> docker.DockerClient:
    give_up = time.monotonic() + START_SECONDS
    while not _accepts(url):
        if daemon.poll() is not None or time.monotonic() > give_up:
            raise AssertionError(f"no Docker engine: {log.read_text()[-2000:]}")
        time.sleep(0.1)
    return docker.DockerClient(base_url=url, timeout=600)


def _accepts(url: str) -> bool:
    """Whether something listens; the client itself leaves its socket open when nothing does."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(url.removeprefix("unix://")) == 0


def _remove_containers(url: str) -> None:
    """What a failed test left running would outlive the daemon."""
    if not _accepts(url):
        return
    client = docker.DockerClient(base_url=url, timeout=60)
    for container in client.containers.list(all=True):
        container.remove(force=True, v=True)
    client.close()
