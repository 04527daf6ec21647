"""When a server's connection is opened, asked whether it is there, and ended for its age."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol

from gateway.http2.limits import Limits

LEAVE_SECONDS = 1.0
"""How long a client may take to show that it has heard of the end, until which it may begin calls."""
AGE_JITTER_RATIO = 0.1
"""By so much ages differ, so that who came together does not come again together (gRPC proposal A9)."""


class Timed(Protocol):
    """A connection."""

    has_begun: bool

    def ping(self) -> None:
        """Ask the client whether it is there."""

    def leave(self) -> None:
        """Begin to end."""

    def close_door(self) -> None:
        """Begin no call any more."""

    def abort(self) -> None:
        """End."""


class Lifetime:
    """The timers of one connection.

    Args:
        connection: that they are of.
        limits: their times.
        attempt: does what a timer asks for.

    Attributes:
        heard_at: when something came last, by `time.monotonic()`.
    """

    def __init__(
        self, connection: Timed, limits: Limits, attempt: Callable[[Callable[[], None]], None]
    ) -> None:
        self.heard_at = time.monotonic()
        self._asked_at = 0.0
        self._connection = connection
        self._limits = limits
        self._attempt = attempt
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def begin(self) -> None:
        """The connection is made."""
        self._set(self._limits.opening_seconds, "alive", self._check_opening)
        if self._limits.age_seconds:
            jitter = random.uniform(1 - AGE_JITTER_RATIO, 1 + AGE_JITTER_RATIO)  # noqa: S311 - no secret
            self._set(self._limits.age_seconds * jitter, "age", self._grow_old)

    def leave(self) -> None:
        """The client was told that the connection ends."""
        self._set(LEAVE_SECONDS, "leave", self._connection.close_door)

    def end(self) -> None:
        """The connection is gone."""
        for timer in self._timers.values():
            timer.cancel()
        del self._connection

    def _set(self, seconds: float, name: str, act: Callable[[], None]) -> None:
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, self._attempt, act)

    def _check_opening(self) -> None:
        if self._connection.has_begun:
            self._check_alive()
        else:
            self._connection.abort()

    def _check_alive(self) -> None:
        quiet = time.monotonic() - self.heard_at
        if quiet < self._limits.ping_seconds:
            self._set(self._limits.ping_seconds - quiet, "alive", self._check_alive)
        else:
            self._asked_at = time.monotonic()
            self._connection.ping()
            self._set(self._limits.pong_seconds, "alive", self._check_answered)

    def _check_answered(self) -> None:
        if self.heard_at > self._asked_at:
            self._check_alive()
        else:
            self._connection.abort()

    def _grow_old(self) -> None:
        self._connection.leave()
        self._set(self._limits.age_grace_seconds, "age", self._connection.abort)
