"""Which processes of this machine belong to the local stack, and how they end (Linux: it reads /proc).

A process id alone proves nothing: after a crash it may have gone to a stranger. So a record keeps when the
process started, and everything the stack starts carries a mark in its environment, by which a worker is known
whose server is gone.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.launch import POLL_SECONDS, kill_group

PROC = Path("/proc")
MARK = "LOCAL_STACK"
GONE = frozenset("ZX")  # a zombie has ended; who started it has only not asked yet
DRAIN_SECONDS = 15.0
"""A little more than the gateway's own `drain_seconds`, after which it ends by itself."""


class NotStopped(RuntimeError):
    """A process outlived SIGKILL; the text names it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started here, and leads a session of its own.

    Attributes:
        pid: its process id, which is its session's too.
        started_ticks: when it started, in clock ticks after boot.
        mark: the value of `MARK` in its environment.
    """

    pid: int
    started_ticks: int
    mark: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the kernel says of a process that is alive."""

    pid: int
    session: int
    started_ticks: int


def facts(pid: int, proc: Path = PROC) -> Facts | None:
    """What is known of a process; None when it has ended.

    Source of the field numbers: proc(5). The second field, a name, may hold anything, brackets too.
    """
    try:
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in GONE:
        return None
    return Facts(pid=pid, session=int(fields[3]), started_ticks=int(fields[19]))


def is_alive(server: Server, proc: Path = PROC) -> bool:
    """Whether the server itself still runs; not so when its id belongs to a stranger by now."""
    found = facts(server.pid, proc)
    return found is not None and found.started_ticks == server.started_ticks


def members(server: Server, proc: Path = PROC) -> list[int]:
    """The living processes of a server's session: itself, its workers, and workers that it left behind."""
    leader = facts(server.pid, proc)
    if leader is not None and leader.started_ticks != server.started_ticks:
        return []
    found = (facts(int(entry.name), proc) for entry in proc.iterdir() if entry.name.isdigit())
    session = [one.pid for one in found if one is not None and one.session == server.pid]
    return session if leader is not None else [pid for pid in session if _is_marked(pid, server.mark, proc)]


def stop(server: Server) -> None:
    """End a server and all that it left: SIGTERM to the server, time to finish, SIGKILL to the rest.

    Raises:
        NotStopped: something is still there.
    """
    if is_alive(server):
        with contextlib.suppress(ProcessLookupError):  # it may end by itself at this very moment
            os.kill(server.pid, signal.SIGTERM)
        _wait(lambda: not is_alive(server))
    if not members(server):
        return
    kill_group(server.pid)
    _wait(lambda: not members(server))
    if left := members(server):
        raise NotStopped(f"still there after SIGKILL: {', '.join(map(str, left))}")


def _is_marked(pid: int, mark: str, proc: Path) -> bool:
    try:
        environment = (proc / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return f"{MARK}={mark}".encode() in environment.split(b"\0")


def _wait(done: Callable[[], bool]) -> None:
    give_up = time.monotonic() + DRAIN_SECONDS
    while not done() and time.monotonic() < give_up:
        time.sleep(POLL_SECONDS)
