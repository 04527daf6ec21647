"""One endpoint of one pool: what the balancer knows about it."""

import math
from dataclasses import dataclass, field

from gateway.backends import Backend
from gateway.balancing.outlier import Outlier, OutlierRules
from gateway.balancing.peak_ewma import PeakEwma
from gateway.balancing.success_ratio import AnswerCounts

UNPROVEN_SECONDS = 1e6
"""What a request is taken to wait behind another one at an endpoint that has never answered."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """Load and health of one address of one backend replica, for one model version and variant.

    Attributes:
        name: as the configuration has it.
        backend: the kind of backend.
        infer: the client.
        latency: of its answers.
        outlier: passive health.
        answers: of the last window, for passive health.
        instances: how many batches it works on at a time.
        is_ready: active health, as last asked.
        problem: why it cannot serve its model until somebody mends something, as last asked; else empty.
        in_flight: sent and unanswered; what was joined into one batch is one.
        is_draining: an operator said so: it takes no new requests, and finishes those in flight.
        picked_at: when round robin picked it last (monotonic).
        healed_at: when its model was last healed, or that was tried (monotonic).
    """

    name: str
    backend: str
    infer: Backend
    latency: PeakEwma = field(default_factory=lambda: PeakEwma(10.0))
    outlier: Outlier = field(default_factory=lambda: Outlier(OutlierRules()))
    answers: AnswerCounts = field(default_factory=lambda: AnswerCounts(10.0))
    instances: int = 1
    is_ready: bool = False
    problem: str = ""
    in_flight: int = 0
    is_draining: bool = False
    picked_at: float = -math.inf
    healed_at: float = -math.inf

    def go_on(self, before: "Endpoint", now: float) -> None:
        """Begin with what was learned of the same server by other settings, `before`.

        One that answered is ready as it is, and need not warm up; one that failed must show that it is well.
        """
        self.is_ready = before.is_ready and not before.outlier.is_suspect
        self.healed_at = before.healed_at
        if seconds := before.latency.at(now):
            self.latency.observe(seconds, now)

    def is_available(self, now: float) -> bool:
        """Whether it takes a request at `now` (monotonic)."""
        if not self.is_ready or self.is_draining or self.outlier.is_ejected(now):
            return False
        return not (self.outlier.on_probation and self.in_flight)

    def load(self, now: float) -> float:
        """The number that the balancer compares: in-flight and latency, in no unit.

        The root, because latency that was observed under load has the queue in it already: times `in_flight`
        it would count the queue twice, and a cold or batching engine would get next to nothing
        (docs/decisions/0009-load.md has the shares measured with and without).

        One that has never answered looks idle for its first request, and worse than any other while that is
        under way: else every request would go to what may never answer.
        """
        latency = self.latency.at(now)
        if not latency and self.in_flight:
            latency = UNPROVEN_SECONDS
        return (self.in_flight + 1) * math.sqrt(latency)
