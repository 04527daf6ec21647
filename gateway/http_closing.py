"""When an HTTP connection is closed for want of what it waits for."""

import asyncio
import math
from collections.abc import Callable

TIMER_SECONDS = 0.001
"""By so much uvloop's timers may fire too early."""


class ClosingTime:
    """A point in time that each request moves on. One timer does for all: it looks whether it is time yet.

    Args:
        loop: whose clock it is by.
        close: what is done then.

    Attributes:
        is_set: whether there is such a time now.
        is_kept: the connection is closed then for want of a further request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, close: Callable[[], None]) -> None:
        self._loop = loop
        self._close = close
        self._at = self._fires_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self.is_set = self.is_kept = False

    def set(self, seconds: float, *, is_kept: bool = False) -> None:
        """Close then."""
        self._at, self.is_set, self.is_kept = self._loop.time() + seconds, True, is_kept
        if self._at < self._fires_at:
            self._set_timer()

    def clear(self) -> None:
        """Close at no time."""
        self._at, self.is_set, self.is_kept = math.inf, False, False

    def stop(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._at
        self._timer = self._loop.call_at(self._fires_at, self._fire)

    def _fire(self) -> None:
        self._timer, self._fires_at = None, math.inf
        if self._at <= self._loop.time() + TIMER_SECONDS:
            self._close()
        elif self.is_set:
            self._set_timer()
