"""Passive health: an endpoint that keeps failing is ejected, longer each time, and comes back on probation.

The scheme is Envoy's consecutive-failure outlier detection
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier) with one trial request
when the ejection ends, as a circuit breaker has it. Pure: every call takes the time.
"""

import math
from dataclasses import dataclass

GIVEN_UP_TO_SUSPECT = 3
"""So many attempts in a row that nobody waited for to the end make an endpoint suspect. A dead one may never
be seen to fail: what it does not answer, a hedge answers first, and from then on it gets little but hedges,
which the others answer first."""


@dataclass(frozen=True, slots=True)
class OutlierRules:
    """When and for how long.

    Attributes:
        consecutive_failures: how many in a row eject.
        ejection_seconds: the first ejection; each further one that comes soon doubles it.
        max_ejection_seconds: where doubling ends.
        forgiven_seconds: how long after an ejection it must be well for the next one to be a first one again.
    """

    consecutive_failures: int = 3
    ejection_seconds: float = 1.0
    max_ejection_seconds: float = 30.0
    forgiven_seconds: float = 10.0


class Outlier:
    """The passive health of one endpoint.

    Args:
        rules: when it is ejected.
    """

    __slots__ = (
        "_ejected_at",
        "_ejected_until",
        "_failures",
        "_given_up",
        "_last_ejection_seconds",
        "_on_probation",
        "_rules",
    )

    def __init__(self, rules: OutlierRules) -> None:
        self._rules = rules
        self._failures = 0
        self._given_up = 0
        self._last_ejection_seconds = 0.0
        self._on_probation = False
        self._ejected_at = -math.inf
        self._ejected_until = 0.0

    def succeeded(self, sent: float = math.inf) -> None:
        """It answered what was sent at `sent`: failures are forgotten, and an ejection ends.

        A request that was sent before the ejection tells nothing new.
        """
        if not self.is_news(sent):
            return
        self._failures = self._given_up = 0
        self._on_probation = False
        self._ejected_until = 0.0

    def failed(
        self, now: float, sent: float = math.inf, *, is_outlier: bool = False, may_eject: bool = True
    ) -> bool:
        """It failed at `now` to answer what was sent at `sent`; true when that ejects it.

        A request that was sent before the ejection or during it tells nothing new.

        Args:
            now: seconds, monotonic.
            sent: seconds, monotonic.
            is_outlier: whether it fails more often than others, so that one failure is enough.
            may_eject: whether it may be ejected now; if not, a later failure may do it.
        """
        if not self.is_news(sent) or self.is_ejected(now):
            return False
        self._failures += 1
        is_due = self._on_probation or is_outlier or self._failures >= self._rules.consecutive_failures
        if is_due and may_eject:
            self._eject(now)
        return is_due and may_eject

    def gave_up(self) -> None:
        """Nobody waited for its answer any more: no failure, but perhaps there would have been no answer."""
        self._given_up += 1

    def answered_when_asked(self) -> None:
        """It answered the health check's own request: it is alive, whatever clients did not wait for."""
        self._given_up = 0

    def _eject(self, now: float) -> None:
        rules = self._rules
        is_soon = now < self._ejected_at + self._last_ejection_seconds + rules.forgiven_seconds
        seconds = self._last_ejection_seconds * 2 if self._on_probation or is_soon else rules.ejection_seconds
        self._last_ejection_seconds = min(seconds, rules.max_ejection_seconds)
        self._on_probation = True
        self._failures = 0
        self._ejected_at = now
        self._ejected_until = now + self._last_ejection_seconds

    def is_news(self, sent: float) -> bool:
        """Whether what became of a request sent at `sent` tells more than the last ejection did."""
        return sent >= self._ejected_at

    def is_ejected(self, now: float) -> bool:
        """Whether it takes no traffic at `now`."""
        return now < self._ejected_until

    @property
    def is_suspect(self) -> bool:
        """Whether the last news of it was a failure, or there was none for several attempts."""
        return self._failures > 0 or self._on_probation or self._given_up >= GIVEN_UP_TO_SUSPECT

    @property
    def on_probation(self) -> bool:
        """Whether it has been ejected and has not answered since: it takes one request at a time."""
        return self._on_probation

    @property
    def ejected_until(self) -> float:
        """When the last ejection ends (monotonic)."""
        return self._ejected_until
