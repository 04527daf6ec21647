"""How many users a load test has at each moment: a straight line, a spike, or the same all the time."""

from collections.abc import Callable

RAMP_SHARE = 0.8
"""Of a ramp's time it climbs; then it stays."""
SPIKE_FROM, SPIKE_TO = 0.4, 0.6
SPIKE_BASE = 0.2
"""Of the users are there before and after the spike."""

Curve = Callable[[float], float]
"""From the share of the time that has passed, 0 to 1, to a share of the users."""


def ramp(passed: float) -> float:
    """A straight line from none to all, then all: at which load does latency begin to climb?"""
    return min(1.0, passed / RAMP_SHARE)


def spike(passed: float) -> float:
    """A fifth, suddenly all, then a fifth again: what is refused, and how soon is it as before?"""
    return 1.0 if SPIKE_FROM <= passed < SPIKE_TO else SPIKE_BASE


def soak(passed: float) -> float:
    """All from the beginning to the end: does anything grow?"""
    del passed
    return 1.0


def users(curve: Curve, seconds: float, run_seconds: float, most: int) -> int | None:
    """How many users there are after so many seconds, at least one; None when the run is over."""
    if seconds >= run_seconds:
        return None
    return max(1, round(curve(seconds / run_seconds) * most))
