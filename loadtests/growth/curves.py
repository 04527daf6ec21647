"""The curves: each compares the first of its sizes with every other, in turn, in one run."""

import asyncio
import itertools
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.growth.client import send_once
from loadtests.growth.rig import FLOAT_BYTES, Model, Rig, models
from tests.serving import StartedGateway

HIT, MISS = "hit", "miss"
IN_FLIGHT = 32
LARGE_IN_FLIGHT = 8
"""Of payloads: 32 of the largest would be more than the gateway's limits on what waits."""
UNSENT = itertools.count(1)
"""Numbers of requests that no gateway was sent before; hits have 0."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        requests: a round.
        rounds: a point.
        idle_seconds: for how long a gateway is watched that nobody asks anything.
        endpoints: sizes of that curve, as the next three; the first is what the others are compared with.
        models: configured models.
        payload_bytes: of one request's tensor.
        connections: each with one request in flight.
    """

    requests: int = 2000
    rounds: int = 5
    idle_seconds: float = 5.0
    endpoints: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    models: Sequence[int] = (1, 10, 100, 1000)
    payload_bytes: Sequence[int] = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22)
    connections: Sequence[int] = (1, 10, 100, 1000)


QUICK = Plan(
    requests=200,
    rounds=1,
    idle_seconds=0.1,
    endpoints=(1, 3),
    models=(1, 5),
    payload_bytes=(1 << 10, 1 << 14),
    connections=(1, 10),
)
"""To see that it works."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size, on one path.

    Attributes:
        path: `hit`, from the memory tier, or `miss`, from an engine.
        size: of what the curve is about.
        cpu_us: CPU microseconds a request, the median of the rounds.
        ratio: to the first size; the median over the rounds of what was measured one after the other.
        ratios: lowest and highest of these.
        idle_ms: CPU milliseconds a second while nothing is asked; None where it was not measured.
        scrape_ms: CPU milliseconds of a `GET /metrics`, and
        scrape_bytes: its size.
    """

    path: str
    size: int
    cpu_us: float
    ratio: float
    ratios: tuple[float, float]
    idle_ms: float | None = None
    scrape_ms: float | None = None
    scrape_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What one side of a comparison is sent in each round.

    Attributes:
        gateway: that is measured.
        path: `hit` or `miss`.
        served: the models that are asked, one after the other.
        requests: a round.
        connections: each with one in flight.
    """

    gateway: StartedGateway
    path: str
    served: Sequence[Model]
    requests: int
    connections: int = IN_FLIGHT

    def round(self) -> float:
        """CPU microseconds that the gateway spent on each request."""
        asked = itertools.islice(itertools.cycle(self.served), self.requests)
        requests = [model.request(0 if self.path == HIT else next(UNSENT)) for model in asked]
        before = cpu_seconds(self.gateway.running.pid)
        asyncio.run(send_once(self.gateway.http, requests, self.connections))
        return (cpu_seconds(self.gateway.running.pid) - before) / len(requests) * 1e6


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads: its clock, which is finer than the 10 ms of /proc.

    The clock's number is what Linux' clock_getcpuclockid(3) makes of the process's.
    """
    return time.clock_gettime((~pid << 3) | 2)


def compared(size: int, load: Load, first: Load, rounds: int, **other: Any) -> Point:
    """A point of a curve; a round of each that does not count comes before, and fills the cache."""
    first.round()
    load.round()
    pairs = [(first.round(), load.round()) for _ in range(rounds)]
    ratios = [ours / reference for reference, ours in pairs]
    return Point(
        load.path,
        size,
        statistics.median(ours for _, ours in pairs),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        **other,
    )


def at_rest(gateway: StartedGateway, seconds: float) -> dict[str, Any]:
    """What a gateway costs that nobody asks anything, and what its metrics do."""
    pid = gateway.running.pid
    before = cpu_seconds(pid)
    time.sleep(seconds)
    idle = (cpu_seconds(pid) - before) / seconds
    before, scrapes = cpu_seconds(pid), 5
    for _ in range(scrapes):
        with urllib.request.urlopen(f"http://{gateway.admin}/metrics", timeout=30) as page:
            size = len(page.read())
    scrape = (cpu_seconds(pid) - before) / scrapes
    return {"idle_ms": idle * 1e3, "scrape_ms": scrape * 1e3, "scrape_bytes": size}


def by_endpoints(rig: Rig, plan: Plan) -> Iterator[Point]:
    """Misses over a pool of so many endpoints."""
    served = models(1)
    with rig.gateway(served, endpoints=plan.endpoints[0]) as first:
        for count in plan.endpoints:
            with rig.gateway(served, endpoints=count) as gateway:
                many = Load(gateway, MISS, served, plan.requests)
                few = Load(first, MISS, served, plan.requests)
                yield compared(count, many, few, plan.rounds, **at_rest(gateway, plan.idle_seconds))


def by_models(rig: Rig, plan: Plan) -> Iterator[Point]:
    """Hits and misses of all of so many models, one after the other, at one endpoint."""
    with rig.gateway(models(plan.models[0])) as first:
        for count in plan.models:
            with rig.gateway(models(count)) as gateway:
                for path in (HIT, MISS):
                    few = Load(first, path, models(plan.models[0]), plan.requests)
                    many = Load(gateway, path, models(count), plan.requests)
                    rest = at_rest(gateway, plan.idle_seconds) if path == MISS else {}
                    yield compared(count, many, few, plan.rounds, **rest)


def by_payload(rig: Rig, plan: Plan) -> Iterator[Point]:
    """Hits and misses with tensors of so many bytes."""
    served = {size: Model(f"bytes_{size}", size // FLOAT_BYTES) for size in plan.payload_bytes}
    first = plan.payload_bytes[0]
    with rig.gateway(list(served.values())) as gateway:
        for size, path in itertools.product(plan.payload_bytes, (HIT, MISS)):
            # A round of 4 MB each would be gigabytes, and takes no longer for having fewer requests.
            count = max(20, min(plan.requests, (256 << 20) // size))
            load = Load(gateway, path, [served[size]], count, LARGE_IN_FLIGHT)
            reference = Load(gateway, path, [served[first]], plan.requests, LARGE_IN_FLIGHT)
            yield compared(size, load, reference, plan.rounds)


def by_connections(rig: Rig, plan: Plan) -> Iterator[Point]:
    """Hits over so many connections."""
    served = models(1)
    with rig.gateway(served) as gateway:
        for count in plan.connections:
            load = Load(gateway, HIT, served, max(plan.requests, 5 * count), count)
            first = Load(gateway, HIT, served, plan.requests, plan.connections[0])
            yield compared(count, load, first, plan.rounds)


CURVES: dict[str, Callable[[Rig, Plan], Iterator[Point]]] = {
    "endpoints": by_endpoints,
    "models": by_models,
    "payload_bytes": by_payload,
    "connections": by_connections,
}


def measured(rig: Rig, plan: Plan, curve: str) -> Iterator[dict[str, Any]]:
    """The points of one curve, as they are written down."""
    return (asdict(point) for point in CURVES[curve](rig, plan))
