"""Is a gateway the same after a long time? Memory and latency by windows of a soak, and a rule for "flat".

Memory climbs between two full garbage collections and falls again; a leak raises the floor. So its trend is
that of the least memory in each `FLOOR_WINDOWS`, which are longer than that takes: values of one climb would
not be independent, and a fall among few of them looks like a trend. The p99 of each window is taken relative
to the time of a fixed piece of work then, since the speed of a shared machine drifts by a quarter, and its
trend is that of the logarithm. The rule asks for proof: the upper end of each slope's 95 % interval must be
below the limit, so that a run too short or noisy to tell is not called flat. The slope is Sen's, the median
of the slopes of all pairs, which a single step or outlier does not move; the interval is that of its ranks
(P. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat. Assoc. 63, 1968).
"""

import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

WINDOW_SECONDS = 30.0
FLOOR_WINDOWS = 5
"""In whose samples the floor is looked for: two and a half minutes."""
WARM_UP_RATIO = 1 / 3
"""Of the run does not count: caches fill, connections open, every code path is met a first time."""
MOST_GROWTH_MIB_PER_HOUR = 30.0
MOST_P99_RATIO = 1.25
"""Of the end of what counts to its beginning."""
WORK_STEPS = 20_000
"""Of the fixed work: about a millisecond, so that it holds up nobody."""
Z_95 = 1.96
MIB = 2**20


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
        work_seconds: that the fixed work took, the median of its samples.
    """

    seconds: float
    requests: int
    failures: int
    p50_seconds: float
    p99_seconds: float
    rss_bytes: float
    work_seconds: float


def work_seconds() -> float:
    """CPU seconds of a fixed piece of work now.

    Not the time that passes: a gateway that takes more and more CPU would then slow the measure of itself.
    """
    began = time.thread_time()
    sum(step * step for step in range(WORK_STEPS))
    return time.thread_time() - began


class Recording:
    """What is seen while a soak runs, window by window."""

    def __init__(self) -> None:
        self._seconds: defaultdict[int, list[float]] = defaultdict(list)
        self._failures: Counter[int] = Counter()
        self._rss: defaultdict[int, list[float]] = defaultdict(list)
        self._work: defaultdict[int, list[float]] = defaultdict(list)

    def answered(self, at: float, seconds: float, *, failed: bool) -> None:
        """A request ended so many seconds after the start, and took so many."""
        number = int(at / WINDOW_SECONDS)
        self._seconds[number].append(seconds)
        self._failures[number] += failed

    def measured(self, at: float, rss_bytes: float, work_seconds: float) -> None:
        """The gateway had so much resident memory, and the fixed work took so long."""
        self._rss[int(at / WINDOW_SECONDS)].append(rss_bytes)
        self._work[int(at / WINDOW_SECONDS)].append(work_seconds)

    def windows(self, seconds: float) -> list[Window]:
        """The whole windows of so many seconds, without those in which nothing was seen."""
        whole = range(int(seconds / WINDOW_SECONDS))
        return [self._window(number) for number in whole if self._seconds[number] and self._rss[number]]

    def _window(self, number: int) -> Window:
        took = self._seconds[number]
        p50, p99 = np.percentile(took, (50, 99)).tolist()
        at, least = (number + 0.5) * WINDOW_SECONDS, min(self._rss[number])
        work = statistics.median(self._work[number])
        return Window(at, len(took), self._failures[number], p50, p99, least, work)


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
        p99_ratio: of the trend of p99 relative to the fixed work: at the end of what counts to its beginning.
        failures: of the whole run.
        windows: how many counted.
    """

    growth_mib_per_hour: Slope
    p99_ratio: Slope
    failures: int
    windows: int

    @property
    def is_flat(self) -> bool:
        """Whether memory and p99 are proven flat, and nothing failed."""
        return (
            self.growth_mib_per_hour.high <= MOST_GROWTH_MIB_PER_HOUR
            and self.p99_ratio.high <= MOST_P99_RATIO
            and not self.failures
        )

    @property
    def is_grown(self) -> bool:
        """Whether it is proven that one of them grows, or something failed."""
        return (
            self.growth_mib_per_hour.low > MOST_GROWTH_MIB_PER_HOUR
            or self.p99_ratio.low > MOST_P99_RATIO
            or self.failures > 0
        )

    def __str__(self) -> str:
        growth, ratio = self.growth_mib_per_hour, self.p99_ratio
        judged = "flat" if self.is_flat else "NOT flat" if self.is_grown else "NOT shown to be flat"
        return (
            f"{judged}: memory {growth.estimate:+.1f} MiB an hour "
            f"(95 %: {growth.low:+.1f} to {growth.high:+.1f}, limit {MOST_GROWTH_MIB_PER_HOUR:+.0f}), "
            f"p99, for the machine's speed, {ratio.estimate:.2f} times of what it was "
            f"(95 %: {ratio.low:.2f} to {ratio.high:.2f}, limit {MOST_P99_RATIO:g}), "
            f"{self.failures} failures, {self.windows} windows after the warm-up"
        )


def judge(windows: Sequence[Window]) -> Verdict:
    """The verdict on a whole run."""
    counted = list(windows[int(len(windows) * WARM_UP_RATIO) :])
    return Verdict(
        slope(_floors(counted)),
        _p99_ratio(counted),
        sum(window.failures for window in windows),
        len(counted),
    )


def _p99_ratio(windows: Sequence[Window]) -> Slope:
    """What p99, relative to the fixed work, becomes from the first window to the last."""
    if len(windows) < 2:  # noqa: PLR2004 - a trend is of two
        return Slope(1.0, 0.0, math.inf)
    first, last = windows[0].seconds, windows[-1].seconds
    trend = slope(
        [
            ((window.seconds - first) / (last - first), math.log(window.p99_seconds / window.work_seconds))
            for window in windows
        ]
    )
    return Slope(math.exp(trend.estimate), math.exp(trend.low), math.exp(trend.high))


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
