"""What a server puts up with: frames that cost their sender nothing, and pings."""

import time
from collections.abc import Callable

FREE = 1000
"""So many frames that bring nothing may come at once: clients do cancel all their calls in one moment ..."""
A_SECOND = 200
"""... and so many more in each second. Each call that is answered makes up for one, too."""
PING_STRIKES = 2


class Patience:
    """Counts what a well-behaved client sends seldom: resets, pings, settings, empty frames, errors.

    A reset costs its sender one frame, and the server a request (CVE-2023-44487); a stream that is made to
    fail is the same in other words (CVE-2025-8671).

    Args:
        ping_seconds: pings that come sooner after another, while no call goes on, are counted.
        clock: seconds, monotonic.
    """

    def __init__(self, ping_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ping_seconds = ping_seconds
        self._clock = clock
        self._spent = 0.0
        self._at = clock()
        self._pinged = -ping_seconds
        self._strikes = 0

    def is_spent(self) -> bool:
        """Count one more; whether it was one too many."""
        self._spent += 1
        if self._spent <= FREE:
            return False
        now = self._clock()
        self._spent = max(1.0, self._spent - A_SECOND * (now - self._at))
        self._at = now
        return self._spent > FREE

    def answered(self) -> None:
        """A call was."""
        self._spent = max(0.0, self._spent - 1)

    def is_pinged_out(self, *, is_busy: bool) -> bool:
        """Count a ping; whether there have been too many.

        Args:
            is_busy: calls have gone on since the last one: who pings then measures how fast (proposal A8).
        """
        now = self._clock()
        if is_busy:
            self._strikes = 0
        elif now - self._pinged < self._ping_seconds:
            self._strikes += 1
        self._pinged = now
        return self._strikes > PING_STRIKES
