"""One measurement: a closed loop against a system, and what each of its processes spent on a request."""

import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.bench.closed_loop import Loop, http_loop
from loadtests.bench.grpc_loop import grpc_loop
from loadtests.bench.http_client import ask_each
from loadtests.bench.processes import Meter
from loadtests.bench.sources import BINARY, GRPC, Image, grpc_message
from loadtests.bench.systems import System

GRPC_CONNECTIONS = 4
"""Over which calls in flight are spread, as several clients would."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often.

    Attributes:
        seconds: of one closed loop.
        rounds: of each figure, in turn with what it is compared to; the figure is their median.
        images: how many distinct ones, sent in turn.
        open_seconds: of one rate of the open loop.
        steps: how often the interval of rates is halved.
        tries: how often a rate may miss the bound.
        checked: how many answers of each system and encoding are held against the model's.
    """

    seconds: int = 3
    rounds: int = 3
    images: int = 1000
    open_seconds: float = 4.0
    steps: int = 6
    tries: int = 2
    checked: int = 50


QUICK = Options(seconds=1, rounds=1, images=500, open_seconds=1.0, steps=3, tries=1, checked=20)


@dataclass(frozen=True, slots=True)
class Measured:
    """A loop, and CPU microseconds a request by process."""

    loop: Loop
    cpu_us: dict[str, float]

    @property
    def per_second(self) -> float:
        """Throughput, requests a second."""
        return self.loop.per_second

    def as_json(self) -> dict[str, Any]:
        """For the page's JSON."""
        cpu_us = {name: round(us, 1) for name, us in self.cpu_us.items()}
        p50_ms, p99_ms = round(self.loop.p50_ms, 3), round(self.loop.p99_ms, 3)
        return {"per_second": round(self.per_second), "p50_ms": p50_ms, "p99_ms": p99_ms, "cpu_us": cpu_us}


def measure(
    system: System, protocol: str, images: Sequence[Image], *, connections: int, seconds: int
) -> Measured:
    """Send the images in turn for so long, after a warm-up of a second that does not count.

    Args:
        system: what answers.
        protocol: `GRPC`, or a name of its encodings.
        images: what is asked.
        connections: requests in flight.
        seconds: how long.

    Raises:
        LoadFailed: a request was not answered.
    """
    if protocol == GRPC:
        messages = [grpc_message(image) for image in images]

        def run(seconds: int) -> Loop:
            return grpc_loop(
                system.grpc,
                messages,
                connections=min(GRPC_CONNECTIONS, connections),
                in_flight=connections,
                seconds=seconds,
                metadata=system.metadata,
            )
    else:
        requests = system.encodings[protocol].requests(images)

        def run(seconds: int) -> Loop:
            return http_loop(system.address, requests, connections=connections, seconds=seconds)

    run(1)
    meter = Meter(system.pids)
    loop = run(seconds)
    measured = Measured(loop, meter.microseconds(loop.requests))
    cpu = ", ".join(f"{name} {us:.0f} us" for name, us in measured.cpu_us.items())
    say(f"{system.title}, {protocol}, {connections} in flight: {measured.per_second:.0f}/s, CPU a request: {cpu}")
    return measured


def median(rounds: Sequence[Measured]) -> Measured:
    """The middle one by throughput."""
    return sorted(rounds, key=lambda one: one.per_second)[len(rounds) // 2]


def ratio(rounds: Sequence[Measured], reference: Sequence[Measured]) -> float:
    """Throughput against the reference's: the median of the pairs, since a machine's speed drifts."""
    return statistics.median(a.per_second / b.per_second for a, b in zip(rounds, reference, strict=True))


def fill(system: System, images: Sequence[Image]) -> None:
    """Ask each once, so that a cache knows the answers."""
    asyncio.run(ask_each(system.address, system.encodings[BINARY].requests(images)))


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{text}\n")
