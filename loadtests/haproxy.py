"""HAProxy, the reference for what a proxy costs: `apt-get install haproxy`."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.paced_replica import listens
from services.launch import Launch, LaunchError, Running, free_port

PROGRAM = shutil.which("haproxy") or "/usr/sbin/haproxy"
CONFIGURATION = """
global
    maxconn 4000
defaults
    mode http
    balance leastconn
    http-reuse always
    timeout connect 2s
    timeout server 60s
    timeout client 60s
frontend clients
    bind 127.0.0.1:{port}{protocol}
    default_backend replicas
backend replicas
{servers}
"""


@dataclass(frozen=True, slots=True)
class StartedProxy:
    """A running HAProxy; `address` is host:port."""

    running: Running
    address: str


def haproxy_version() -> str:
    """As `haproxy -v` says it.

    Raises:
        LaunchError: it is not installed.
    """
    if not Path(PROGRAM).exists():
        raise LaunchError("HAProxy is not installed (Debian: apt-get install haproxy)")
    return subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stdout.split()[2]


@contextmanager
def running_haproxy(folder: Path, replicas: Sequence[int], *, is_grpc: bool) -> Iterator[StartedProxy]:
    """HAProxy, `leastconn`, in front of these ports of the loopback interface.

    Args:
        folder: of its own; made.
        replicas: the ports.
        is_grpc: HTTP/2 on both sides; else HTTP/1.1.

    Raises:
        LaunchError: it is not installed, or did not start.
    """
    haproxy_version()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    protocol = " proto h2" if is_grpc else ""
    servers = "\n".join(f"    server r{number} 127.0.0.1:{number}{protocol}" for number in replicas)
    path = folder / "haproxy.cfg"
    path.write_text(CONFIGURATION.format(port=port, protocol=protocol, servers=servers))
    launch = Launch(
        name="haproxy",
        argv=[PROGRAM, "-db", "-f", str(path)],
        is_ready=lambda: listens(port),
        log=folder / "haproxy.log",
    )
    with Running(launch) as running:
        yield StartedProxy(running, f"127.0.0.1:{port}")
