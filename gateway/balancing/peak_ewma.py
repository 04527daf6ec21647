"""Latency as a peak-sensitive moving average.

Peak EWMA, as in Finagle (https://linkerd.io/2016/03/16/beyond-round-robin-load-balancing-for-latency/): a
value above the average replaces it at once, one below pulls it down by the time that has passed. So a slow
answer is believed immediately and forgotten slowly.
"""

import math


class PeakEwma:
    """The moving average of one endpoint's latency.

    Args:
        decay_seconds: after this time an old peak counts 1/e.

    Attributes:
        seconds: the average; 0 before the first observation.
    """

    __slots__ = ("_decay_seconds", "_seen", "seconds")

    def __init__(self, decay_seconds: float) -> None:
        self._decay_seconds = decay_seconds
        self._seen = 0.0
        self.seconds = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """An answer took `seconds` and came at `now` (monotonic)."""
        if seconds >= self.seconds:
            self.seconds = seconds
        else:
            weight = math.exp(-max(0.0, now - self._seen) / self._decay_seconds)
            self.seconds = self.seconds * weight + seconds * (1 - weight)
        self._seen = now
