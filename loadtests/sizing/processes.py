"""One gateway process or several on the same cores: throughput and CPU time a request, in turn."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.bench.closed_loop import http_loop
from loadtests.bench.measure import Measured, measure
from loadtests.bench.sources import BINARY
from loadtests.bench.systems import running_inferway
from tests.load import distinct_images
from tests.serving import Engine

PATHS: Mapping[str, Mapping[str, int]] = {"hit": {}, "miss": {"memory_bytes": 0}}
"""Settings of the cache: every answer from the memory tier, or every one from the engine."""
COUNTS = (1, 2)
CONNECTIONS = 32
IMAGES = 1000


def measure_processes(folder: Path, triton: Engine, rounds: int, seconds: int) -> dict[str, Any]:
    """What each number of processes does on each path, and against the first number.

    Args:
        folder: for configurations and logs.
        triton: the engine behind all of them.
        rounds: of each, in turn.
        seconds: a round; as long is spent before the first one on filling the caches.
    """
    images = list(distinct_images(IMAGES))
    results: dict[str, Any] = {}
    for path, cache in PATHS.items():
        with ExitStack() as stack:
            systems = [
                stack.enter_context(
                    running_inferway(
                        folder / f"{path}-{count}",
                        triton.endpoint,
                        title=f"{path}, processes: {count}",
                        pids={"Triton": triton.running.pid},
                        cache=cache,
                        more={"server": {"processes": count}},
                    )
                )
                for count in COUNTS
            ]
            for (
                system
            ) in systems:  # each process has a cache of its own, so once over one connection is not enough
                requests = system.encodings[BINARY].requests(images)
                http_loop(system.address, requests, connections=CONNECTIONS, seconds=seconds)
            found: list[list[Measured]] = [[] for _ in COUNTS]
            for _ in range(rounds):
                for ours, system in zip(found, systems, strict=True):
                    ours.append(measure(system, BINARY, images, connections=CONNECTIONS, seconds=seconds))
        results[path] = [
            {"processes": count, **_row(ours, found[0])} for count, ours in zip(COUNTS, found, strict=True)
        ]
    return results


def _row(measured: Sequence[Measured], reference: Sequence[Measured]) -> dict[str, float]:
    pairs = list(zip(measured, reference, strict=True))
    return {
        "per_second": round(statistics.median(one.per_second for one in measured)),
        "throughput_ratio": round(statistics.median(a.per_second / b.per_second for a, b in pairs), 2),
        "gateway_us": round(statistics.median(one.cpu_us["gateway"] for one in measured), 1),
        "cpu_ratio": round(statistics.median(a.cpu_us["gateway"] / b.cpu_us["gateway"] for a, b in pairs), 2),
        "engine_us": round(statistics.median(one.cpu_us["Triton"] for one in measured), 1),
        "p99_ms": round(statistics.median(one.loop.p99_ms for one in measured), 2),
    }
