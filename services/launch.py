"""How a server is started here without Docker: what to run, and how to see that it is ready.

Each `services/<backend>/run.py` has a function that returns a `Launch`; the local stack and the tests
start it with `Running`, so that both start the very same thing.
"""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_SECONDS = 0.1
STOP_SECONDS = 10.0
"""How long a server may take to finish what it is at, between SIGTERM and SIGKILL."""
TAIL_LINES = 3
"""How much of its log is told of a server that did not start."""

PORTS = range(20_000, 32_768)
"""What `free_port` chooses from: below the ports that Linux gives to clients (ip_local_port_range)."""


def _from_anywhere() -> Iterator[int]:
    """All ports in turn, again and again; from a random one, since others on this machine choose, too."""
    start = random.randrange(len(PORTS))  # noqa: S311 - no secret
    return itertools.cycle((*PORTS[start:], *PORTS[:start]))


_next_ports = _from_anywhere()


class LaunchError(RuntimeError):
    """A server that did not start; the text says why and where its log is."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One server process.

    Attributes:
        name: as the status table shows it.
        argv: the program and its arguments; the process must be the server itself, not a launcher that
            would leave it orphaned.
        is_ready: polled until true; must not raise while the server is still coming up.
        log: where its output goes.
        env: added to the environment.
        cwd: its working folder.
        timeout_seconds: how long it may take to be ready.
        addresses: what listens, for people to read: `{"grpc": "127.0.0.1:7070"}`.
    """

    name: str
    argv: Sequence[str]
    is_ready: Callable[[], bool]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    timeout_seconds: float = 120.0
    addresses: Mapping[str, str] = field(default_factory=dict)


class Running:
    """A started server, in a process group of its own; a context manager that stops it.

    Args:
        launch: what to start.

    Raises:
        LaunchError: it ended, or was not ready in time.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        with launch.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(launch.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **launch.env},
                cwd=launch.cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The server's process id, which is also its group's."""
        return self.process.pid

    def wait_ready(self) -> Self:
        """Poll until the server is ready; leave nothing of it if it does not get there."""
        give_up = time.monotonic() + self.launch.timeout_seconds
        while not self.launch.is_ready():
            if self.process.poll() is not None:
                self.stop()  # it may have left workers
                raise LaunchError(f"{self.launch.name} ended with {self.process.returncode}: {self._tail()}")
            if time.monotonic() > give_up:
                self.stop()
                raise LaunchError(
                    f"{self.launch.name} was not ready in {self.launch.timeout_seconds:.0f} s: {self._tail()}"
                )
            time.sleep(POLL_SECONDS)
        return self

    def kill(self) -> None:
        """SIGKILL to the whole group, as a crash would."""
        kill_group(self.pid)
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever of the group is left."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        kill_group(self.pid)

    def _tail(self) -> str:
        # Several: the last line may only say that it ends.
        lines = self.launch.log.read_text(errors="replace").strip().splitlines()[-TAIL_LINES:]
        return f"{' | '.join(lines) or 'it printed nothing'} (log: {self.launch.log})"

    def __enter__(self) -> Self:
        try:
            return self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def kill_group(pid: int) -> None:
    """SIGKILL to a process group; gone already is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on, and that no other call here was given.

    Not the kernel's choice: of its range it gives the same port twice now and then, before anybody has bound
    the first, and any client's connection may take it meanwhile. This range is below (ip(7)).

    Raises:
        LaunchError: all are taken.
    """
    for _ in range(len(PORTS)):
        port = next(_next_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LaunchError(f"no TCP port of {PORTS.start} to {PORTS.stop - 1} is free")
