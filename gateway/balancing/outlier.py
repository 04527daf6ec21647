"""Passive health: an endpoint that keeps failing is ejected, longer each time, and comes back on probation.

The scheme is Envoy's consecutive-failure outlier detection
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier) with one trial request
when the ejection ends, as a circuit breaker has it. Pure: every call takes the time.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutlierRules:
    """When and for how long.

    Attributes:
        consecutive_failures: how many in a row eject.
        ejection_seconds: the first ejection; each further one without a success between doubles it.
        max_ejection_seconds: where doubling ends.
    """

    consecutive_failures: int = 3
    ejection_seconds: float = 1.0
    max_ejection_seconds: float = 30.0


class Outlier:
    """The passive health of one endpoint.

    Args:
        rules: when it is ejected.
    """

    __slots__ = ("_ejected_until", "_failures", "_last_ejection_seconds", "_rules")

    def __init__(self, rules: OutlierRules) -> None:
        self._rules = rules
        self._failures = 0
        self._last_ejection_seconds = 0.0  # 0 once it has answered
        self._ejected_until = 0.0

    def succeeded(self) -> None:
        """It answered: all is forgotten."""
        self._failures = 0
        self._last_ejection_seconds = 0.0

    def failed(self, now: float) -> bool:
        """It failed at `now`; true when that ejects it."""
        if self.is_ejected(now):
            return False  # a request sent before the ejection: it tells nothing new
        self._failures += 1
        if not self.on_probation and self._failures < self._rules.consecutive_failures:
            return False
        seconds = self._last_ejection_seconds * 2 or self._rules.ejection_seconds
        self._last_ejection_seconds = min(seconds, self._rules.max_ejection_seconds)
        self._failures = 0
        self._ejected_until = now + self._last_ejection_seconds
        return True

    def is_ejected(self, now: float) -> bool:
        """Whether it takes no traffic at `now`."""
        return now < self._ejected_until

    @property
    def on_probation(self) -> bool:
        """Whether it has been ejected and has not answered since: it takes one request at a time."""
        return self._last_ejection_seconds > 0

    @property
    def ejected_until(self) -> float:
        """When the last ejection ends (monotonic)."""
        return self._ejected_until
