"""When a user asks next."""

from collections.abc import Callable
from random import Random


class Pace:
    """Spreads a user's questions in time as independent people's are: exponential gaps, a Poisson process.

    One that is due while the answer before is still awaited is asked right after it, and what was missed is
    not made up for: one user never has two questions in flight, so that the rate is an upper bound.

    Args:
        rate: questions a second on average; 0: no pause at all.
        rng: of the gaps.
        clock: seconds.
    """

    def __init__(self, rate: float, rng: Random, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._rng = rng
        self._clock = clock
        self._due = clock()

    def wait_seconds(self) -> float:
        """How long to wait before the next question; ask it once for each."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._due = max(self._due + self._rng.expovariate(self._rate), now)
        return self._due - now
