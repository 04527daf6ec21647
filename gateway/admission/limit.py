"""The adaptive concurrency limit of one pool: additive increase, multiplicative decrease (AIMD) on latency.

As in TCP (slow start, then congestion avoidance: RFC 5681) and in Netflix' concurrency-limits (`AIMDLimit`:
back off to 0.9 when an answer takes longer than a goal; grow only while half of the limit is in use).
Gradient2 and Vegas of the same library compare latency with what it was, or with the least that it was. An
engine that batches is slower under load long before it loses capacity, which Vegas takes for a queue; and
under a lasting overload what latency was lately is its own queue, after which Gradient2 lets its limit drift
up. `docs/overload.md` has all three over simulated engines. So latency is compared with a goal here: as long
as it is met, more at once can only help an engine that batches. Where callers are less patient than that
goal, their patience is the goal.
"""

import math
from dataclasses import dataclass

FIRST_REQUESTS = 8
"""The limit to begin with; slow start doubles it every round trip."""
BACKOFF_RATIO = 0.9
"""What a decrease leaves (Netflix' default)."""
LOST_BACKOFF_RATIO = 0.7
"""What it leaves where requests were given up in flight (TCP's for a loss): the engine goes on with them."""
WEIGHT = 0.1
"""Of one answer in the means: some ten answers, so that one slow answer is no overload."""
OUTLIER_RATIO = 4.0
"""An answer counts as at most so many times the mean: a retry after a hang says little of the others, and a
lasting rise still adds 30 % with every answer."""
ALONE_RATIO = 2.0
"""An engine that takes longer than the goal for one request, alone, may take twice that."""
DEVIATIONS = 3.0
"""The mean answer and so many mean deviations (four in TCP's timer, Jacobson 1988) are to come
within the time that callers have left when they are sent."""
LEAST_RATIO = 1.2
"""An engine is never asked to be faster than this multiple of what it takes for one request, alone."""


@dataclass(frozen=True, slots=True)
class LimitRules:
    """Bounds of a limit.

    Attributes:
        min_requests: it never falls below.
        max_requests: it never rises above.
        latency_goal_seconds: how slow answers may become, waiting at the engine included.
    """

    min_requests: int = 1
    max_requests: int = 1024
    latency_goal_seconds: float = 0.25


class AdaptiveLimit:
    """The limit, and what the answers so far have shown.

    Args:
        rules: its bounds.

    Attributes:
        requests: how many may be in flight.
    """

    def __init__(self, rules: LimitRules) -> None:
        self.requests = min(max(FIRST_REQUESTS, rules.min_requests), rules.max_requests)
        self._rules = rules
        self._exact = float(self.requests)
        self._latency_seconds = self._alone_seconds = self._patience_seconds = 0.0  # 0 before the first
        self._deviation_seconds = self._in_flight = 0.0
        self._is_starting = True
        self._decreased_at = float("-inf")

    def sent(self, left_seconds: float) -> None:
        """Learn what the caller of a request that is sent has left until its deadline."""
        if left_seconds < math.inf:
            self._patience_seconds = _mean(self._patience_seconds, max(0.0, left_seconds))

    def answered(self, seconds: float, now: float, *, in_flight: int, was_alone: bool) -> None:
        """Learn from an answer.

        Args:
            seconds: from sending to the answer.
            now: when it came; monotonic.
            in_flight: how many there were at that time, itself included.
            was_alone: nothing else was in flight when it was sent.
        """
        if was_alone:
            # Down at once: what was given up may still be at work there, and only makes it slower.
            self._alone_seconds = min(seconds, _mean(self._alone_seconds, seconds))
        self._took(seconds, in_flight)
        if self._is_slow():
            self._decrease(now, BACKOFF_RATIO)
        elif 2 * in_flight >= self._exact:
            self._set(
                self._exact
                + (1.0 if self._is_starting else max(1.0, math.sqrt(self._exact) / 2) / self._exact)
            )

    def abandoned(self, seconds: float, now: float, *, in_flight: int) -> None:
        """Learn from a request that was given up after `seconds`: its answer would have taken longer."""
        if seconds > self._latency_seconds:
            self._took(seconds, in_flight)
            if self._is_slow():
                self._decrease(now, LOST_BACKOFF_RATIO)

    def refused(self, now: float) -> None:
        """Learn that no endpoint took a request: their own queues are full, or none is left."""
        self._decrease(now, BACKOFF_RATIO)

    def wait_seconds(self, requests: int) -> float:
        """How long so many requests take at the rate at which answers come.

        The rate is that of Little's law, mean in flight / mean latency. It is what the engines can do while
        the limit is reached; else nobody waits, and nobody asks.
        """
        return requests * self._latency_seconds / self._in_flight if self._in_flight else 0.0

    def answer_seconds(self, in_flight: int) -> float:
        """How long the answer to one more request will take, behind so many that are in flight."""
        return max(self._alone_seconds, self.wait_seconds(in_flight + 1))

    def _took(self, seconds: float, in_flight: int) -> None:
        if self._latency_seconds:
            deviation = abs(min(seconds, OUTLIER_RATIO * self._latency_seconds) - self._latency_seconds)
            self._deviation_seconds += WEIGHT * (deviation - self._deviation_seconds)
        self._latency_seconds = _mean(self._latency_seconds, seconds)
        self._in_flight = _mean(self._in_flight, in_flight)

    def _is_slow(self) -> bool:
        mean, alone = self._latency_seconds, self._alone_seconds
        if mean > max(self._rules.latency_goal_seconds, ALONE_RATIO * alone):
            return True
        most = mean + DEVIATIONS * self._deviation_seconds
        return most > (self._patience_seconds or math.inf) and mean > LEAST_RATIO * alone

    def _decrease(self, now: float, ratio: float) -> None:
        """Once a round trip: what is in flight was sent under the limit before."""
        self._is_starting = False
        if now - self._decreased_at >= self._latency_seconds:
            self._decreased_at = now
            self._set(self._exact * ratio)

    def _set(self, exact: float) -> None:
        self._exact = min(max(exact, self._rules.min_requests), self._rules.max_requests)
        self.requests = int(self._exact)


def _mean(mean: float, value: float) -> float:
    return mean + WEIGHT * (min(value, OUTLIER_RATIO * mean) - mean) if mean else value
