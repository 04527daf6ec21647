"""What came of a simulation: every request's end, and counts by the second."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadtests.simulator.server_model import Server

QUANTILES = np.linspace(0, 1, 51)
"""Of the requests that an endpoint served: 0, 2, ... 100 %."""


class Records:
    """Counts what happens in one simulation.

    Args:
        horizon_seconds: requests arrive until then.
        warm_up_seconds: what arrives before this is not in `latency`: averages and queues start empty.

    Attributes:
        requests: that arrived, by the second of their arrival.
        answered: requests that got their answer, by the second of its coming.
        attempts: that were made, by the second.
        failed: requests that ended without an answer, by the second of their end.
    """

    __slots__ = ("_seconds", "_warm_up_seconds", "answered", "attempts", "failed", "requests")

    def __init__(self, horizon_seconds: float, warm_up_seconds: float) -> None:
        # beyond the horizon come the deadlines of the last requests
        bins = int(horizon_seconds) + 32
        self.requests = [0] * bins
        self.answered = [0] * bins
        self.attempts = [0] * bins
        self.failed = [0] * bins
        self._warm_up_seconds = warm_up_seconds
        self._seconds = array("d")

    def arrived(self, now: float) -> None:
        """A client asked."""
        self.requests[int(now)] += 1

    def attempted(self, now: float) -> None:
        """A gateway sent something to a server, or tried to."""
        self.attempts[int(now)] += 1

    def ended(self, started: float, now: float, *, is_answered: bool) -> None:
        """A client has its answer, or its error."""
        (self.answered if is_answered else self.failed)[int(now)] += 1
        if started >= self._warm_up_seconds:
            self._seconds.append(now - started)

    def latency(self) -> dict[str, float]:
        """Of requests that arrived after the warm-up: mean and percentiles, milliseconds."""
        milliseconds = 1e3 * np.asarray(self._seconds)
        p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9])
        named = {"mean_ms": milliseconds.mean(), "p50_ms": p50, "p99_ms": p99, "p99_9_ms": p999}
        return {name: round(float(value), 3) for name, value in named.items()}

    def tail(self) -> list[list[float]]:
        """The latency's distribution: [share of the requests, milliseconds], denser towards the slow end."""
        shares = 1 - np.logspace(0, -4, 60)
        return [
            [round(float(share), 6), round(float(value) * 1e3, 2)]
            for share, value in zip(shares, np.quantile(np.asarray(self._seconds), shares), strict=True)
        ]

    def totals(self) -> dict[str, int]:
        """Over the whole run."""
        parts: Mapping[str, Sequence[int]] = {
            "requests": self.requests,
            "answered": self.answered,
            "failed": self.failed,
            "attempts": self.attempts,
        }
        return {name: sum(counts) for name, counts in parts.items()}


def spread(servers: Sequence[Server], seconds: float) -> dict[str, Any]:
    """How evenly the servers worked: their busy share, and how far the busiest is above the mean.

    Args:
        servers: those that are meant to be equal.
        seconds: of the run.
    """
    busy = np.asarray([server.busy_seconds for server in servers]) / seconds
    served = np.asarray([server.served for server in servers])
    return {
        "busy_mean_ratio": round(float(busy.mean()), 4),
        "busy_max_to_mean": round(float(busy.max() / busy.mean()), 3),
        "served_max_to_mean": round(float(served.max() / served.mean()), 3),
        "served_to_mean": [round(float(part), 3) for part in np.quantile(served / served.mean(), QUANTILES)],
        "longest_queue": max(server.longest_queue for server in servers),
    }
