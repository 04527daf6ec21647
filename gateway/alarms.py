"""Many points in time on one timer of the event loop.

To set a timer of its own and to cancel it again costs a request more than most stages do, and hardly any is
ever heard. So those of one kind share a timer, which looks when it fires who is due. It fires at the earliest
point that there was when it was set: mostly whoever it was set for is gone by then, and it is set anew for
one that still waits.
"""

import asyncio
import math
from collections.abc import Callable
from operator import itemgetter
from typing import Generic, TypeVar

SLACK_SECONDS = 1e-4
"""By so much a timer may fire before its time; uvloop's know whole milliseconds, and so does `set`."""


T = TypeVar("T")


class Alarms(Generic[T]):
    """The alarms of one kind, of one event loop.

    Args:
        ring: called with each whose time has come; may set others.
    """

    __slots__ = ("_due", "_fires_at", "_ring", "_timer")

    def __init__(self, ring: Callable[[T], None]) -> None:
        self._ring = ring
        self._due: dict[T, float] = {}
        self._fires_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def set(self, sleeper: T, seconds: float) -> None:
        """Ring once so many seconds have passed, up to a millisecond later; never where they are infinite."""
        if seconds == math.inf:
            return
        # Rounded up: uvloop's timers round to the nearest millisecond.
        due = asyncio.get_running_loop().time() + math.ceil(seconds * 1000) / 1000
        self._due[sleeper] = due
        if due < self._fires_at:
            self._fire_at(due)

    def stop(self, sleeper: T) -> None:
        """Ring no more for this one, if it ever would have."""
        self._due.pop(sleeper, None)

    def _fire(self) -> None:
        self._timer, self._fires_at = None, math.inf
        now = asyncio.get_running_loop().time() + SLACK_SECONDS
        rings = [(due, sleeper) for sleeper, due in self._due.items() if due <= now]
        try:
            for _, sleeper in sorted(rings, key=itemgetter(0)):
                if self._due.pop(sleeper, None) is not None:  # else another that rang has stopped it
                    self._ring(sleeper)
        finally:  # a failure may be one's, and must not be the others'
            due = min(self._due.values(), default=math.inf)
            if due < self._fires_at:  # else one that rang has set it
                self._fire_at(due)

    def _fire_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._fire)
