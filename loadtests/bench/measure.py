"""One measurement: a closed loop against a system, and what each of its processes spent on a request."""

import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.bench.closed_loop import LoadFailed, Loop, http_loop
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
        warm_up_seconds: of the same before it, which do not count.
        rounds: of each figure, in turn with what it is compared to; the figure is their median.
        images: how many distinct ones, sent in turn.
        open_seconds: of one rate of the open loop.
        steps: how often the interval of rates is halved.
        tries: how often a rate may miss the bound.
        checked: how many answers of each system and encoding are held against the model's.
    """

    seconds: int = 3
    warm_up_seconds: int = 1
    rounds: int = 3
    images: int = 1000
    open_seconds: float = 3.0
    steps: int = 5
    tries: int = 2
    checked: int = 50

    @property
    def lengths(self) -> dict[str, int]:
        """What `measure` takes of them."""
        return {"seconds": self.seconds, "warm_up_seconds": self.warm_up_seconds}


QUICK = Options(
    seconds=1, warm_up_seconds=0, rounds=1, images=500, open_seconds=0.5, steps=2, tries=1, checked=20
)
TRIES = 3
"""A server that is still getting up speed may answer nothing in a short loop."""


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
    system: System,
    protocol: str,
    images: Sequence[Image],
    *,
    connections: int,
    seconds: int,
    warm_up_seconds: int = 1,
) -> Measured:
    """Send the images in turn for so long, after a warm-up.

    Args:
        system: what answers.
        protocol: `GRPC`, or a name of its encodings.
        images: what is asked.
        connections: requests in flight.
        seconds: how long.
        warm_up_seconds: of the same before it.

    Raises:
        LoadFailed: a request was refused, or none was answered.
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

    if warm_up_seconds:
        run(warm_up_seconds)
    for _ in range(TRIES):
        meter = Meter(system.pids)
        loop = run(seconds)
        if loop.requests:
            break
    else:
        raise LoadFailed(f"{system.title} answered nothing within {seconds} s ({protocol})")
    measured = Measured(loop, meter.microseconds(loop.requests))
    cpu = ", ".join(f"{name} {us:.0f} us" for name, us in measured.cpu_us.items())
    rate = f"{measured.per_second:.0f}/s"
    say(f"{system.title}, {protocol}, {connections} in flight: {rate}, CPU a request: {cpu}")
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
