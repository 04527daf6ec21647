"""When a canary is to be taken back: its errors and its p99 over a window, held against bounds."""

import math
from collections import deque
from dataclasses import dataclass

KEPT = 5_000
"""Of one side: the latest outcomes within the window. Sorting as many takes about a millisecond."""
QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a canary may not exceed.

    Attributes:
        max_error_ratio: by how much its share of failures may be larger than the stable side's.
        max_p99_ratio: how many times the stable side's p99 its own may be; None for any.
        max_p99_seconds: how long its p99 may be; None for any.
        min_requests: of a side before its numbers mean anything.
    """

    max_error_ratio: float = 0.01
    max_p99_ratio: float | None = None
    max_p99_seconds: float | None = None
    min_requests: int = 100


class Outcomes:
    """What became of one side's requests lately.

    Args:
        window_seconds: how long one counts.
    """

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._kept: deque[tuple[float, float | None]] = deque()
        self.errors = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, now: float, seconds: float | None) -> None:
        """One more.

        Args:
            now: seconds, monotonic.
            seconds: how long the answer took; None for a failure.
        """
        self._kept.append((now, seconds))
        self.errors += seconds is None
        if len(self._kept) > KEPT:
            self._drop()
        self.expire(now)

    def expire(self, now: float) -> None:
        """Forget what is older than the window."""
        while self._kept and self._kept[0][0] <= now - self._window_seconds:
            self._drop()

    def _drop(self) -> None:
        self.errors -= self._kept.popleft()[1] is None

    @property
    def error_ratio(self) -> float:
        """Share of failures; 0 of none."""
        return self.errors / len(self._kept) if self._kept else 0.0

    def p99(self) -> float:
        """The 99th percentile of the answers in seconds (nearest rank); 0 of none."""
        answered = sorted(seconds for _, seconds in self._kept if seconds is not None)
        return answered[math.ceil(QUANTILE * len(answered)) - 1] if answered else 0.0


def has_too_many_errors(trial: Outcomes, stable: Outcomes, bounds: Bounds) -> bool:
    """Whether the failures alone say that the canary must go.

    Few requests have not much to say, but a canary that fails each of them need not be sent a hundred: it is
    enough that the bound is broken even if all that are missing to `min_requests` were answered.
    """
    known = stable.error_ratio if len(stable) >= bounds.min_requests else 0.0
    return trial.errors > (bounds.max_error_ratio + known) * max(len(trial), bounds.min_requests)


def why_too_slow(trial: Outcomes, stable: Outcomes, bounds: Bounds) -> str:
    """Which bound the canary's p99 breaks; empty when none. Sorts all outcomes: not for every request."""
    if len(trial) < bounds.min_requests or (bounds.max_p99_ratio is None and bounds.max_p99_seconds is None):
        return ""
    p99 = trial.p99()
    if bounds.max_p99_seconds is not None and p99 > bounds.max_p99_seconds:
        return f"p99 of {p99:.3g} s is over {bounds.max_p99_seconds:g} s"
    if bounds.max_p99_ratio is not None and len(stable) >= bounds.min_requests:
        usual = stable.p99()
        if p99 > bounds.max_p99_ratio * usual:
            return f"p99 of {p99:.3g} s is over {bounds.max_p99_ratio:g} times the stable {usual:.3g} s"
    return ""
