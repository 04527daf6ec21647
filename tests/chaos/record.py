"""What a fault did to the clients: one row of the chaos table, made from the samples of a steady load."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.chaos.steady import Sample, p99

WINDOW_SECONDS = 0.5
RECOVERED_RATIO, RECOVERED_SECONDS = 2.0, 0.02
"""A window has recovered when at most one request takes longer than the p99 before times this, plus this."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    Attributes:
        fault: its name.
        requests: sent over the whole time.
        failed: not answered rightly.
        before: p99 in seconds up to the fault.
        during: the same from the fault until it was undone (or a second after, where nothing has to be).
        after: the same from then on.
        recovery_seconds: from the fault until requests were as fast as before again.
        longest_seconds: the slowest of all.
    """

    fault: str
    requests: int
    failed: int
    before: float
    during: float
    after: float
    recovery_seconds: float
    longest_seconds: float

    @classmethod
    def of(cls, fault: str, samples: Sequence[Sample], *, began: float, ended: float) -> "Row":
        """From the samples; `began` and `ended` are of the fault, in seconds since the load began."""
        before = [sample for sample in samples if sample.sent < began - WINDOW_SECONDS]
        during = [sample for sample in samples if began <= sample.sent < ended]
        after = [sample for sample in samples if sample.sent >= ended]
        return cls(
            fault,
            len(samples),
            sum(bool(sample.failed) for sample in samples),
            p99(before),
            p99(during),
            p99(after),
            _recovery_seconds(samples, began, p99(before)),
            max(sample.seconds for sample in samples),
        )


def _recovery_seconds(samples: Iterable[Sample], began: float, before: float) -> float:
    limit = before * RECOVERED_RATIO + RECOVERED_SECONDS
    slow = [s.sent - began for s in samples if s.sent + s.seconds >= began and s.seconds > limit]
    if not slow:
        return 0.0
    # A single late request long after is the machine's noise: a window with several counts.
    windows: dict[int, int] = {}
    for sent in slow:
        windows[int(sent // WINDOW_SECONDS)] = windows.get(int(sent // WINDOW_SECONDS), 0) + 1
    last = max((window for window, count in windows.items() if count > 1), default=0)
    return max(0.0, (last + 1) * WINDOW_SECONDS)


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown; milliseconds but for the recovery."""
    lines = [
        "| fault | requests | failed | p99 before, ms | during | after | slowest | recovered after, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = (row.before, row.during, row.after, row.longest_seconds)
        shown = " | ".join(f"{1000 * seconds:.0f}" for seconds in times)
        lines.append(
            f"| {row.fault} | {row.requests} | {row.failed} | {shown} | {row.recovery_seconds:.1f} |"
        )
    return "\n".join(lines) + "\n"
