"""Latency as a peak-sensitive moving average.

Peak EWMA, as in Finagle (https://linkerd.io/2016/03/16/beyond-round-robin-load-balancing-for-latency/): a
value above the average replaces it at once, one below pulls it down by the time that has passed, and so does
time alone. So a slow answer is believed immediately and forgotten slowly, and an endpoint that was slow once
is asked again though others are faster.

What was given up unanswered, as every attempt that loses against its hedge, tells only how long it took at
least. As in Karn's algorithm (Karn and Partridge, SIGCOMM 1987), the estimate is then backed off until there
is an answer to measure: else a slow endpoint whose answers nobody waits for would look only as slow as the
wait was long, and get more requests than it should.
"""

import math

MOST_DOUBLINGS = 7
"""Of what was given up in a row: 128 times as long is longer than any attempt may take."""


class PeakEwma:
    """The moving average of one endpoint's latency.

    Args:
        decay_seconds: after this time an old peak counts 1/e.
    """

    __slots__ = ("_decay_seconds", "_gave_up_at", "_gave_ups", "_seconds", "_seen")

    def __init__(self, decay_seconds: float) -> None:
        self._decay_seconds = decay_seconds
        self._seen = 0.0
        self._seconds = 0.0
        self._gave_ups = 0
        self._gave_up_at = -math.inf

    def observe(self, seconds: float, now: float) -> None:
        """An answer took `seconds` and came at `now` (monotonic)."""
        self._gave_ups = 0
        self._learn(seconds, now)

    def gave_up(self, seconds: float, now: float) -> None:
        """An answer was waited for in vain, for `seconds` until `now` (monotonic).

        Those that were under way together when one was given up count as one: a pause is not a slow endpoint.
        """
        if now - seconds >= self._gave_up_at:
            self._gave_ups = min(self._gave_ups + 1, MOST_DOUBLINGS + 1)
            self._gave_up_at = now
        least = seconds * 2 ** max(0, self._gave_ups - 1)
        if least > self.at(now):
            self._learn(least, now)

    def forget(self) -> None:
        """Start anew: what answers from now on is not what answered before."""
        self._seconds = 0.0
        self._gave_ups = 0

    def _learn(self, seconds: float, now: float) -> None:
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
