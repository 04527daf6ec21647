"""How a server is started here without Docker: what to run, and how to see that it is ready.

Each `services/<backend>/run.py` has a function that returns a `Launch`; the local stack and the tests
start it with `Running`, so that both start the very same thing.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_SECONDS = 0.1
STOP_SECONDS = 10.0
"""How long a server may take to finish what it is at, between SIGTERM and SIGKILL."""


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
        lines = self.launch.log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'it printed nothing'} (log: {self.launch.log})"

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
    """A TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
