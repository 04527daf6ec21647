"""Latency as a peak-sensitive moving average.

Peak EWMA, as in Finagle (https://linkerd.io/2016/03/16/beyond-round-robin-load-balancing-for-latency/): a
value above the average replaces it at once, one below pulls it down by the time that has passed, and so does
time alone. So a slow answer is believed immediately and forgotten slowly, and an endpoint that was slow once
is asked again though others are faster.
"""

import math


class PeakEwma:
    """The moving average of one endpoint's latency.

    Args:
        decay_seconds: after this time an old peak counts 1/e.
    """

    __slots__ = ("_decay_seconds", "_seconds", "_seen")

    def __init__(self, decay_seconds: float) -> None:
        self._decay_seconds = decay_seconds
        self._seen = 0.0
        self._seconds = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """An answer took `seconds` and came at `now` (monotonic)."""
        if seconds >= self._seconds:
            self._seconds = seconds
        else:
            weight = self._weight(now)
            self._seconds = self._seconds * weight + seconds * (1 - weight)
        self._seen = max(self._seen, now)

    def at(self, now: float) -> float:
        """The average in seconds as it counts at `now`; 0 before the first observation."""
        return self._seconds * self._weight(now)

    def _weight(self, now: float) -> float:
        """What the average of the last observation still counts, 0..1."""
        return math.exp(-max(0.0, now - self._seen) / self._decay_seconds)
