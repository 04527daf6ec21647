"""Is a gateway the same after a long time? Memory and latency by windows of a soak, and a rule for "flat".

Between two full garbage collections memory climbs and falls again; a leak raises the floor. So the trend is
that of the least memory in each `FLOOR_WINDOWS`. The rule asks for proof: the upper end of the slope's 95 %
interval must be below the limit, so that a run too short or noisy to tell is not called flat. The slope is
Sen's, the median of the slopes of all pairs, which a single step or outlier does not move; the interval is
that of its ranks (P. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat.
Assoc. 63, 1968).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

WINDOW_SECONDS = 30.0
FLOOR_WINDOWS = 2
"""In whose samples the floor is looked for: a minute."""
WARM_UP_RATIO = 1 / 3
"""Of the run does not count: caches fill, connections open, every code path is met a first time."""
MOST_GROWTH_MIB_PER_HOUR = 30.0
MOST_P99_RATIO = 1.2
"""Of the last third of what counts to its first third."""
Z_95 = 1.96
MIB = 2**20
LEAST_WINDOWS = 12
"""After the warm-up; of fewer nothing can be said."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen in `WINDOW_SECONDS`.

    Attributes:
        seconds: since the start, at its middle.
        requests: answered in it, rightly or not.
        failures: of these.
        p50_seconds: of their duration.
        p99_seconds: likewise.
        rss_bytes: of all the gateway's processes together, the least of its samples.
    """

    seconds: float
    requests: int
    failures: int
    p50_seconds: float
    p99_seconds: float
    rss_bytes: float


class Recording:
    """What is seen while a soak runs, window by window."""

    def __init__(self) -> None:
        self._seconds: defaultdict[int, list[float]] = defaultdict(list)
        self._failures: Counter[int] = Counter()
        self._rss: defaultdict[int, list[float]] = defaultdict(list)

    def answered(self, at: float, seconds: float, *, failed: bool) -> None:
        """A request ended so many seconds after the start, and took so many."""
        number = int(at / WINDOW_SECONDS)
        self._seconds[number].append(seconds)
        self._failures[number] += failed

    def measured(self, at: float, rss_bytes: float) -> None:
        """The gateway had so much resident memory."""
        self._rss[int(at / WINDOW_SECONDS)].append(rss_bytes)

    def windows(self, seconds: float) -> list[Window]:
        """The whole windows of so many seconds, without those in which nothing was seen."""
        whole = range(int(seconds / WINDOW_SECONDS))
        return [self._window(number) for number in whole if self._seconds[number] and self._rss[number]]

    def _window(self, number: int) -> Window:
        took = self._seconds[number]
        p50, p99 = np.percentile(took, (50, 99)).tolist()
        at, least = (number + 0.5) * WINDOW_SECONDS, min(self._rss[number])
        return Window(at, len(took), self._failures[number], p50, p99, least)


@dataclass(frozen=True, slots=True)
class Slope:
    """A trend and its 95 % interval."""

    estimate: float
    low: float
    high: float


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Sen's slope of (x, y), all x different; an interval without ends where there are too few points."""
    slopes = sorted((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))
    if not slopes:
        return Slope(0.0, -math.inf, math.inf)
    count = len(points)
    reach = Z_95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = math.floor((len(slopes) - reach) / 2) - 1, math.ceil((len(slopes) + reach) / 2)
    return Slope(
        float(np.median(slopes)),
        slopes[low] if low >= 0 else -math.inf,
        slopes[high] if high < len(slopes) else math.inf,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a soak says.

    Attributes:
        growth_mib_per_hour: of the floor of the resident memory, after the warm-up.
        p99_ratio: the median p99 of the last third of the windows that count, to that of the first third.
        failures: of the whole run.
        windows: how many counted.
    """

    growth_mib_per_hour: Slope
    p99_ratio: float
    failures: int
    windows: int

    @property
    def is_flat(self) -> bool:
        """Whether memory and p99 are proven flat, and nothing failed."""
        return (
            self.windows >= LEAST_WINDOWS
            and self.growth_mib_per_hour.high <= MOST_GROWTH_MIB_PER_HOUR
            and self.p99_ratio <= MOST_P99_RATIO
            and not self.failures
        )

    def __str__(self) -> str:
        growth = self.growth_mib_per_hour
        judged = "flat" if self.is_flat else "NOT shown to be flat"
        return (
            f"{judged}: memory {growth.estimate:+.1f} MiB an hour "
            f"(95 %: {growth.low:+.1f} to {growth.high:+.1f}, limit {MOST_GROWTH_MIB_PER_HOUR:+.0f}), "
            f"p99 {self.p99_ratio:.2f} times of what it was (limit {MOST_P99_RATIO:g}), "
            f"{self.failures} failures, {self.windows} windows after the warm-up"
        )


def judge(windows: Sequence[Window]) -> Verdict:
    """The verdict on a whole run."""
    counted = list(windows[int(len(windows) * WARM_UP_RATIO) :])
    growth = slope(_floors(counted))
    third = len(counted) // 3
    ratio = math.inf
    if third:
        first, last = (
            float(np.median([window.p99_seconds for window in part]))
            for part in (counted[:third], counted[-third:])
        )
        ratio = last / first
    return Verdict(growth, ratio, sum(window.failures for window in windows), len(counted))


def _floors(windows: Sequence[Window]) -> list[tuple[float, float]]:
    """Hours and MiB of the window with the least memory of each group."""
    whole = range(0, len(windows) - FLOOR_WINDOWS + 1, FLOOR_WINDOWS)
    groups = [windows[at : at + FLOOR_WINDOWS] for at in whole]
    least = [min(group, key=lambda window: window.rss_bytes) for group in groups]
    return [(window.seconds / 3600, window.rss_bytes / MIB) for window in least]


def resident_bytes(metrics: str) -> float:
    """The resident memory in a page of the gateway's metrics, which adds up its processes.

    Raises:
        ValueError: it is not there.
    """
    for line in metrics.splitlines():
        name, _, value = line.rpartition(" ")
        if name == "process_resident_memory_bytes":
            return float(value)
    raise ValueError("no process_resident_memory_bytes among the metrics")


def report(windows: Sequence[Window], facts: Mapping[str, Any]) -> dict[str, Any]:
    """All of it, as JSON has it: `facts` (conditions, settings), windows, and the verdict."""
    verdict = judge(windows)
    return {
        **facts,
        "is_flat": verdict.is_flat,
        "verdict": str(verdict),
        "windows": [asdict(window) for window in windows],
    }
