"""The retry budget: how many retries the live traffic pays for.

As in Finagle's RetryBudget (https://twitter.github.io/finagle/guide/Clients.html#retries): a share of the
requests of the last seconds, and a floor so that little traffic may retry too. When every endpoint fails, the
backends see at most (1 + ratio) times the clients' requests plus the floor, and no retry storm. Finagle lets
ten seconds' floor go at once; here it is one, so that the floor is what its name says in a short storm too.
"""

import math

WINDOW_SECONDS = 10.0
"""How long a deposit counts (Finagle's time to live)."""

BURST_SECONDS = 1.0
"""How much of the floor may be saved up."""


class RetryBudget:
    """A balance that requests fill and retries draw from; pure but for its own state.

    Args:
        ratio: retries that one request pays for.
        floor_per_second: retries a second that need no request.
    """

    def __init__(self, *, ratio: float, floor_per_second: float) -> None:
        self._ratio = ratio
        self._floor_per_second = floor_per_second
        self._full = self._reserve = floor_per_second * BURST_SECONDS
        self._deposits = 0.0
        self._seen = -math.inf

    def deposit(self, now: float) -> None:
        """A request came at `now` (seconds, monotonic)."""
        self._advance(now)
        self._deposits += self._ratio

    def withdraw(self, now: float) -> bool:
        """Take one retry at `now`; false when the balance does not cover it."""
        self._advance(now)
        if self._deposits >= 1:
            self._deposits -= 1
        elif self._reserve >= 1:
            self._reserve -= 1
        else:
            return False
        return True

    def _advance(self, now: float) -> None:
        passed = now - self._seen
        if passed <= 0:
            return
        self._seen = now
        self._deposits *= math.exp(-passed / WINDOW_SECONDS)
        if self._reserve < self._full:
            self._reserve = min(self._full, self._reserve + passed * self._floor_per_second)
