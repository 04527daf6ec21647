"""Pace: when each of many endpoints is asked again, so that more of them cost no more. Pure."""

import math


class Pace:
    """Puts questions at least an interval, and altogether no more than so many a second, apart.

    As long as all fit in, each endpoint is asked once an interval. Beyond that the questions come one after
    the other at an even rate, and never all at once.

    Args:
        interval_seconds: between two questions to one endpoint, at least.
        most_per_second: questions to all of them together.
    """

    def __init__(self, interval_seconds: float, most_per_second: float) -> None:
        self._interval_seconds = interval_seconds
        self._gap_seconds = 1 / most_per_second
        self._latest = -math.inf

    def pause(self, now: float) -> float:
        """How long to wait, from `now` (monotonic), before an endpoint is asked again."""
        self._latest = max(self._latest + self._gap_seconds, now + self._interval_seconds)
        return self._latest - now
