"""When a process that does not answer is to be killed.

What is on its connections keeps no deadline until it is, so it must be soon; but killing one that would have
answered loses what it has in flight, so it must be sure. Linux says which it is (proc(5)): a process that is
stopped or sleeps will not answer by itself, one that works, waits for a core or a disk or is debugged may.
"""

import os
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 0.25
"""How often a process is asked, or looked at while it owes an answer. A look counts for so long, however long
ago the one before was: whoever looks did not run either (the machine was paused, or has no core left)."""
STOPPED_SECONDS = 0.5
BLOCKED_SECONDS = 2.0
BUSY_SECONDS = 15.0
"""How long each may last: stopped by a signal; asleep, with no thread that works; at work all the time."""
IDLE_RATIO = 0.1
"""Whose CPU time a second is below this does not work: threads that only wait wake up now and then."""
STOPPED, BLOCKED, BUSY = "stopped", "blocked", "busy"

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
"""Places of the fields after the name in /proc/<pid>/stat; the state comes first."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a process at one moment.

    Attributes:
        at: seconds, on a monotonic clock.
        states: of its threads, in the letters of proc(5).
        cpu_seconds: that it has used since it began.
    """

    at: float
    states: frozenset[str]
    cpu_seconds: float

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return self.states == {"T"}

    def is_idle(self, before: "Sight") -> bool:
        """Whether all threads sleep, and have not worked since the sight before."""
        used = self.cpu_seconds - before.cpu_seconds
        return self.states == {"S"} and used <= IDLE_RATIO * (self.at - before.at)


class Silence:
    """A question that has no answer yet.

    Attributes:
        seconds: for how long, as far as whoever looks ran itself.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stopped_seconds = self._idle_seconds = 0.0
        self._before: Sight | None = None

    def look(self, sight: Sight) -> str:
        """Why the process is to be killed now; empty while it is not."""
        before, self._before = self._before, sight
        self.seconds += LOOK_SECONDS
        was_stopped = before is not None and before.is_stopped and sight.is_stopped
        was_idle = before is not None and sight.is_idle(before)
        self._stopped_seconds = self._stopped_seconds + LOOK_SECONDS if was_stopped else 0.0
        self._idle_seconds = self._idle_seconds + LOOK_SECONDS if was_idle else 0.0
        if self._stopped_seconds >= STOPPED_SECONDS:
            return STOPPED
        if self._idle_seconds >= BLOCKED_SECONDS:
            return BLOCKED
        return BUSY if self.seconds >= BUSY_SECONDS else ""


def see(pid: int, at: float) -> Sight:
    """The process as it is now; without states where one of its threads has just ended, or all have."""
    try:
        whole = _fields(Path(f"/proc/{pid}/stat"))
        threads = Path(f"/proc/{pid}/task").iterdir()
        states = frozenset(_fields(thread / "stat")[0] for thread in threads)
    except OSError:
        return Sight(at, frozenset(), 0.0)
    return Sight(at, states, (int(whole[_UTIME]) + int(whole[_STIME])) / _TICKS)


def _fields(stat: Path) -> list[str]:
    """Those after the name, which may have blanks and brackets in it."""
    return stat.read_text().rpartition(")")[2].split()
