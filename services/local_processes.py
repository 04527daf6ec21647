"""Which processes of this machine belong to the local stack, and how they end (Linux: it reads /proc).

A process id alone proves nothing: after a crash it may have gone to a stranger. So a record keeps when the process
started, and everything the stack starts carries a mark in its environment, by which a worker is known whose server
is gone.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from services.launch import POLL_SECONDS, STOP_SECONDS, stop_group

PROC = Path("/proc")
MARK = "LOCAL_STACK"
GONE = frozenset("ZX")  # a zombie has ended; who started it has only not asked yet


class NotStopped(RuntimeError):
    """A process outlived SIGKILL; the text names it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What /proc/<pid>/stat says of a process that is alive."""

    pid: int
    session: int
    started_ticks: int


def facts(pid: int, proc: Path = PROC) -> Facts | None:
    """What is known of a process; None when it has ended.

    Source of the field numbers: proc(5). The second field, the program's name, may hold anything, even brackets.
    """
    try:
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in GONE:
        return None
    return Facts(pid=pid, session=int(fields[3]), started_ticks=int(fields[19]))


def members(pid: int, started_ticks: int, mark: str, proc: Path = PROC) -> list[int]:
    """The living processes of a server that we started, the server itself and whatever it left.

    Args:
        pid: the server's, which is its session's too.
        started_ticks: when it started.
        mark: the value of `MARK` in its environment.
        proc: where the kernel shows its processes.

    Returns:
        Process ids; none when the id belongs to a stranger by now.
    """
    leader = facts(pid, proc)
    if leader is not None and leader.started_ticks != started_ticks:
        return []
    found = (facts(int(entry.name), proc) for entry in proc.iterdir() if entry.name.isdigit())
    session = [one.pid for one in found if one is not None and one.session == pid]
    return session if leader is not None else [one for one in session if _is_marked(one, mark, proc)]


def stop(pid: int, started_ticks: int, mark: str) -> None:
    """End a server and all that it left: SIGTERM to the server, time to finish, SIGKILL to the rest.

    Raises:
        NotStopped: something is still there.
    """
    if pid in members(pid, started_ticks, mark):
        os.kill(pid, signal.SIGTERM)
        _wait(lambda: facts(pid) is None)
    if not members(pid, started_ticks, mark):
        return
    stop_group(pid, grace_seconds=0.0)
    _wait(lambda: not members(pid, started_ticks, mark))
    if left := members(pid, started_ticks, mark):
        raise NotStopped(f"still there after SIGKILL: {', '.join(map(str, left))}")
