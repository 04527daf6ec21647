"""Three adaptive concurrency limits over simulated engines: what each of them makes of a lasting overload.

    .venvs/dev/bin/python -m loadtests.admission_limits

Discrete events, one seed, no clock of this machine: the same table every time. There is always another
request to send. Gradient2 and Vegas are those of https://github.com/Netflix/concurrency-limits with its
defaults (smoothing 0.2, tolerance 1.5, long window 600; alpha 3, beta 6, each times log10 of the limit; Vegas
without its probes).
"""

import heapq
import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from gateway.admission.limit import AdaptiveLimit, LimitRules


class Limit(Protocol):
    """What is compared."""

    requests: int

    def answered(self, seconds: float, now: float, *, in_flight: int, was_alone: bool) -> None:
        """Learn from an answer."""


class Gradient2:
    """Latency now against an exponential mean of what it was."""

    def __init__(self) -> None:
        self._exact = 20.0
        self._long_seconds = 0.0
        self._count = 0
        self.requests = 20

    def answered(self, seconds: float, _now: float, *, in_flight: int, was_alone: bool) -> None:
        """Learn from an answer."""
        del was_alone
        self._count += 1
        weight = 1 / self._count if self._count <= 10 else 2 / 601  # noqa: PLR2004 - its warm-up
        self._long_seconds += weight * (seconds - self._long_seconds)
        if self._long_seconds / seconds > 2:  # noqa: PLR2004 - its rule for recovery
            self._long_seconds *= 0.95
        if in_flight < self._exact / 2:
            return
        gradient = max(0.5, min(1.0, 1.5 * self._long_seconds / seconds))
        aim = self._exact * gradient + 4
        self._exact = max(1.0, min(1024.0, 0.8 * self._exact + 0.2 * aim))
        self.requests = int(self._exact)


class Vegas:
    """Latency now against the least that it was."""

    def __init__(self) -> None:
        self._exact = 20.0
        self._least_seconds = math.inf
        self.requests = 20

    def answered(self, seconds: float, _now: float, *, in_flight: int, was_alone: bool) -> None:
        """Learn from an answer."""
        del was_alone
        self._least_seconds = min(self._least_seconds, seconds)
        if in_flight * 2 < self._exact:
            return
        queue = math.ceil(self._exact * (1 - self._least_seconds / seconds))
        step = max(1.0, math.log10(self._exact))
        if queue <= step:
            self._exact += 6 * step
        elif queue < 3 * step:
            self._exact += step
        elif queue > 6 * step:
            self._exact -= step
        self._exact = max(1.0, min(1024.0, self._exact))
        self.requests = int(self._exact)


@dataclass
class Engine:
    """Workers that take what waits, up to a batch each.

    Attributes:
        workers: at once.
        max_batch: requests of one run.
        base_seconds: of a run.
        item_seconds: of each request in it.
    """

    workers: int
    max_batch: int
    base_seconds: float
    item_seconds: float
    waiting: deque[float] = field(default_factory=deque)
    busy: int = 0

    @property
    def capacity(self) -> float:
        """The most requests a second."""
        return self.workers * self.max_batch / (self.base_seconds + self.max_batch * self.item_seconds)


@dataclass(frozen=True)
class Result:
    """Over the second half of a run: share of capacity, the limit at the end, mean latency."""

    capacity_ratio: float
    limit_requests: int
    latency_seconds: float


def run(engine: Engine, limit: Limit, seconds: float, seed: int = 1) -> Result:
    """Keep as many in flight as the limit says."""
    rng = Random(seed)
    ends: list[tuple[float, int, list[float]]] = []
    now, in_flight, number = 0.0, 0, 0
    done: list[float] = []
    alone: set[float] = set()
    while now < seconds:
        while in_flight < limit.requests:
            sent = now + number * 1e-12
            if not in_flight:
                alone.add(sent)
            engine.waiting.append(sent)
            in_flight += 1
            number += 1
        while engine.waiting and engine.busy < engine.workers:
            batch = [engine.waiting.popleft() for _ in range(min(engine.max_batch, len(engine.waiting)))]
            took = engine.base_seconds + engine.item_seconds * len(batch)
            heapq.heappush(ends, (now + took * rng.lognormvariate(0, 0.2), number, batch))
            number += 1
            engine.busy += 1
        now, _, batch = heapq.heappop(ends)
        engine.busy -= 1
        for sent in batch:
            limit.answered(now - sent, now, in_flight=in_flight, was_alone=sent in alone)
            in_flight -= 1
            if now > seconds / 2:
                done.append(now - sent)
    rate = len(done) / (seconds / 2)
    return Result(rate / engine.capacity, limit.requests, sum(done) / max(1, len(done)))


ENGINES: dict[str, Callable[[], Engine]] = {
    "batches of 32, 2 ms + 0.2 ms an item": lambda: Engine(1, 32, 0.002, 0.0002),
    "batches of 64, 20 ms + 0.3 ms an item": lambda: Engine(1, 64, 0.020, 0.0003),
    "1 worker, 40 ms": lambda: Engine(1, 1, 0.040, 0.0),
    "1 worker, 160 ms": lambda: Engine(1, 1, 0.160, 0.0),
    "4 workers, 1 s": lambda: Engine(4, 1, 1.0, 0.0),
}


LIMITS: dict[str, Callable[[], Limit]] = {
    "AIMD (ours)": lambda: AdaptiveLimit(LimitRules()),
    "Gradient2": Gradient2,
    "Vegas": Vegas,
}


def table(seconds: float) -> str:
    """Every limit over every engine, in Markdown: share of capacity, limit, mean latency."""
    lines = ["| engine | " + " | ".join(LIMITS) + " |", "|---" * (len(LIMITS) + 1) + "|"]
    for name, new_engine in ENGINES.items():
        results = [run(new_engine(), new_limit(), seconds) for new_limit in LIMITS.values()]
        cells = [
            f"{r.capacity_ratio:.0%}, {r.limit_requests}, {r.latency_seconds * 1000:,.0f} ms" for r in results
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(120.0) + "\n")
