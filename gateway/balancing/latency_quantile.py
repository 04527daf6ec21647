"""A quantile of a pool's latency, as it has been lately.

A histogram of buckets on a logarithmic scale, so that the relative error is the same everywhere, as in
DDSketch (Masson, Rim, Lee, VLDB 2019, https://arxiv.org/abs/1908.10693). Two windows, the one being filled
and the one before it, let the old go without the memory of each value. Pure but for its own state.
"""

import math

WINDOW_SECONDS = 30.0
"""How long a window is filled: the quantile is that of the last 30 to 60 seconds."""
MIN_OBSERVATIONS = 100
"""With fewer in both windows, a 95th percentile would rest on the slowest four or less."""
FRESH_SECONDS = 0.25
"""How long a quantile that was computed is told again, since computing it walks over the buckets."""
_GROWTH = 1.05
_SHORTEST_SECONDS = 1e-4
_LONGEST_SECONDS = 120.0
_SCALE = 1 / math.log(_GROWTH)
_BUCKETS = math.ceil(math.log(_LONGEST_SECONDS / _SHORTEST_SECONDS) * _SCALE) + 1


class LatencyQuantile:
    """One quantile of what it was told, at most 5 % above the true one.

    Args:
        quantile: which, 0..1.
    """

    __slots__ = (
        "_before",
        "_counts",
        "_fresh_until",
        "_observations",
        "_observations_before",
        "_quantile",
        "_seconds",
        "_window_ends",
    )

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._counts = [0] * _BUCKETS
        self._before = [0] * _BUCKETS
        self._observations = self._observations_before = 0
        self._window_ends = -math.inf
        self._fresh_until = -math.inf
        self._seconds = math.inf

    def observe(self, seconds: float, now: float) -> None:
        """An answer took `seconds` and came at `now` (monotonic)."""
        if now >= self._window_ends:
            self._rotate(now)
        place = math.ceil(math.log(max(seconds, _SHORTEST_SECONDS) / _SHORTEST_SECONDS) * _SCALE)
        self._counts[min(place, _BUCKETS - 1)] += 1
        self._observations += 1

    def at(self, now: float) -> float:
        """The quantile in seconds at `now` (monotonic); infinite before there are enough observations."""
        if now < self._fresh_until:
            return self._seconds
        if now >= self._window_ends:
            self._rotate(now)
        if self._observations + self._observations_before < MIN_OBSERVATIONS:
            return math.inf
        self._fresh_until = now + FRESH_SECONDS
        self._seconds = self._computed()
        return self._seconds

    def _computed(self) -> float:
        rank = math.ceil(self._quantile * (self._observations + self._observations_before))
        seen = 0
        for place, (now, before) in enumerate(zip(self._counts, self._before, strict=True)):
            seen += now + before
            if seen >= rank:
                return _SHORTEST_SECONDS * _GROWTH**place
        raise AssertionError("the rank is at most the total")

    def _rotate(self, now: float) -> None:
        is_next = now < self._window_ends + WINDOW_SECONDS
        self._before = self._counts if is_next else [0] * _BUCKETS
        self._observations_before = self._observations if is_next else 0
        self._counts = [0] * _BUCKETS
        self._observations = 0
        self._window_ends = now + WINDOW_SECONDS
