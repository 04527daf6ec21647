"""Success ratio: an endpoint that fails clearly more often than the others of its pool is an outlier.

It need never fail several times in a row. Envoy compares each host's success rate with the mean of the
cluster less 1.9 standard deviations
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier#success-rate). One of n
hosts can never lie more than sqrt(n - 1) standard deviations below the mean, so that with four or fewer
(1.73) this rule cannot eject anybody, and Envoy asks for five. Pools here are smaller. So the ratio of one
endpoint is held against that of the others together, by a fixed margin; what ails all of them makes an
outlier of none. As with Envoy, a minimum of requests keeps chance out. Pure.
"""

from collections import deque
from dataclasses import dataclass

SLOTS = 10
"""Into so many parts a window is cut: what is older than the window goes a part at a time."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How many attempts ended in a window, and how many of them failed."""

    total: int
    failed: int

    def __add__(self, other: "Answers") -> "Answers":
        """Of both together."""
        return Answers(self.total + other.total, self.failed + other.failed)

    @property
    def success_ratio(self) -> float:
        """The share that did not fail, 0..1; `total` must not be 0."""
        return 1 - self.failed / self.total


class AnswerCounts:
    """Counts the answers of one endpoint over the last window.

    Args:
        window_seconds: its length.
    """

    __slots__ = ("_parts", "_slot_seconds")

    def __init__(self, window_seconds: float) -> None:
        self._slot_seconds = window_seconds / SLOTS
        # Each part: slot, total, failed. Plain numbers, since every answer is counted.
        self._parts: deque[list[int]] = deque(maxlen=SLOTS)

    def observe(self, now: float, *, failed: bool) -> None:
        """An attempt ended at `now` (monotonic)."""
        slot = int(now / self._slot_seconds)
        if not self._parts or self._parts[-1][0] != slot:
            self._parts.append([slot, 0, 0])
        latest = self._parts[-1]
        latest[1] += 1
        latest[2] += failed

    def at(self, now: float) -> Answers:
        """What the window that ends at `now` (monotonic) has."""
        first = int(now / self._slot_seconds) - SLOTS
        total = failed = 0
        for slot, answers, failures in self._parts:
            if slot > first:
                total += answers
                failed += failures
        return Answers(total, failed)

    def clear(self) -> None:
        """Forget all."""
        self._parts.clear()


def is_outlier(own: Answers, others: Answers, *, margin_ratio: float, min_requests: int) -> bool:
    """Whether an endpoint fails clearly more often than the others together.

    Args:
        own: its answers.
        others: those of the others of its pool.
        margin_ratio: its success ratio must be lower by more than this.
        min_requests: that both must have answered for a verdict.
    """
    if own.total < min_requests or others.total < min_requests:
        return False
    return own.success_ratio < others.success_ratio - margin_ratio
