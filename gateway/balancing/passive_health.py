"""Passive health of a pool: which failure ejects its endpoint. Pure.

An endpoint is ejected for failing several times in a row, for failing clearly more often than the others
(`success_ratio`), or for failing on probation; each time only while few enough are ejected.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.success_ratio import Answers, is_outlier

ROUNDING = 1e-9
"""0.1 x 30 is a little over 3 in binary; that must not make it 4."""


@dataclass(frozen=True, slots=True)
class PassiveHealth:
    """The rules of one pool.

    Attributes:
        margin_ratio: by how much the success ratio of an endpoint must be below that of the others.
        min_requests: for how many requests of each the ratios are compared.
        max_ejected_ratio: the largest share of the endpoints that are ready and not draining that may be
            ejected at a time, rounded up. So one may always be, and with the default 0.7 all of a pool of one
            to three, 3 of 4 and 7 of 10. Rounded down, a pool of four would have to go on asking one of three
            that fail, which is more than a retry budget pays for; and an ejection of all costs nothing, since
            it is ignored (see `candidates`).
    """

    margin_ratio: float = 0.2
    min_requests: int = 20
    max_ejected_ratio: float = 0.7

    def answered(self, endpoint: Endpoint, *, sent: float, now: float) -> None:
        """An endpoint answered at `now` what was sent at `sent` (monotonic)."""
        if endpoint.outlier.is_news(sent):
            endpoint.answers.observe(now, failed=False)
            endpoint.outlier.succeeded(sent)

    def failed(self, endpoint: Endpoint, endpoints: Sequence[Endpoint], *, sent: float, now: float) -> bool:
        """An endpoint failed at `now` to answer what was sent at `sent` (monotonic); whether that ejects it.

        Args:
            endpoint: the one that failed.
            endpoints: of the pool.
            sent: when the request was sent.
            now: when it failed.
        """
        outlier = endpoint.outlier
        if not outlier.is_news(sent) or outlier.is_ejected(now):
            return False
        endpoint.answers.observe(now, failed=True)
        others = [other for other in endpoints if other is not endpoint]
        is_ejected = outlier.failed(
            now,
            sent,
            is_outlier=is_outlier(
                endpoint.answers.at(now),
                sum((other.answers.at(now) for other in others), Answers(0, 0)),
                margin_ratio=self.margin_ratio,
                min_requests=self.min_requests,
            ),
            may_eject=self._may_eject_one_beside(others, now),
        )
        if is_ejected:
            endpoint.answers.clear()
        return is_ejected

    def _may_eject_one_beside(self, others: Sequence[Endpoint], now: float) -> bool:
        ready = [other for other in others if other.is_ready and not other.is_draining]
        ejected = sum(other.outlier.is_ejected(now) for other in ready)
        allowed = math.ceil(self.max_ejected_ratio * (len(ready) + 1) - ROUNDING)
        return ejected + 1 <= max(1, allowed)
