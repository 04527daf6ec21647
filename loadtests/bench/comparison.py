"""Each system by itself: throughput, CPU, and the largest rate with p99 inside the bound."""

from typing import Any

import uvloop

from loadtests.bench.answers import check
from loadtests.bench.http_client import Arrived, open_loop
from loadtests.bench.measure import Measured, Options, measure, median, ratio, say
from loadtests.bench.server_scenario import largest_rate
from loadtests.bench.sources import JSON
from loadtests.bench.systems import System
from tests.load import distinct_images

IN_FLIGHT, MANY = 32, 128
BOUND_MS = 50.0
"""Of p99, in the open loop."""
HEADROOM = 1.2
"""The search begins below the best throughput times this."""


def compare(system: System, options: Options, reference: System | None = None) -> dict[str, Any]:
    """All figures of one system, for the page's JSON.

    Args:
        system: what is measured.
        options: how long and how often.
        reference: ours, asked in turn with it; None: the system is ours.

    Raises:
        WrongAnswer: it answers something else than the model; nothing is measured then.
        LoadFailed: a request was not answered.
    """
    check(system, options.checked)
    images = list(distinct_images(options.images, seed=2))

    def load(asked: System, encoding: str, connections: int = IN_FLIGHT) -> Measured:
        return measure(asked, encoding, images, connections=connections, **options.lengths)

    ours: list[Measured] = []
    closed: dict[str, list[Measured]] = {encoding: [] for encoding in system.encodings}
    for _ in range(options.rounds):
        if reference:
            ours.append(load(reference, JSON))
        for encoding, rounds in closed.items():
            rounds.append(load(system, encoding))
    some, many = median(closed[JSON]), load(system, JSON, MANY)
    best = max(some, many, key=lambda one: one.per_second)
    server = _server(system, system.encodings[JSON].requests(images), best, options)
    check(system, 1)  # one that has ended in the open loop has missed every later rate for another reason
    return {
        "title": system.title,
        "version": system.version,
        "settings": system.settings,
        "closed": {encoding: median(rounds).as_json() for encoding, rounds in closed.items()},
        "ours_to_it": round(ratio(ours, closed[JSON]), 2) if reference else 1.0,
        "offline": {"per_second": round(best.per_second), "in_flight": MANY if best is many else IN_FLIGHT},
        "server": server,
    }


def _server(system: System, requests: list[bytes], best: Measured, options: Options) -> dict[str, Any]:
    seeds = iter(range(1, 1000))

    async def attempt(rate: float) -> Arrived:
        run = await open_loop(
            system.address, requests, rate=rate, seconds=options.open_seconds, seed=next(seeds)
        )
        say(f"{system.title}, {rate:.0f}/s at random: p99 {run.milliseconds(99):.1f} ms, {run.failed} failed")
        return run

    async def search() -> tuple[float, Arrived | None]:
        return await largest_rate(
            attempt,
            lambda run: not run.failed and run.milliseconds(99) <= BOUND_MS,
            upper=best.per_second * HEADROOM,
            steps=options.steps,
            tries=options.tries,
        )

    rate, run = uvloop.run(search())
    if run is None:
        return {"per_second": 0, "p50_ms": None, "p99_ms": None}
    p50_ms, p99_ms = (round(run.milliseconds(at), 2) for at in (50, 99))
    return {"per_second": round(rate), "p50_ms": p50_ms, "p99_ms": p99_ms}
