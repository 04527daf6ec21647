"""One request in flight: what the gateway, and HAProxy, add to the time of the engine called directly."""

import statistics
from collections.abc import Mapping
from typing import Any

from loadtests.bench.closed_loop import Loop
from loadtests.bench.measure import Options, measure
from loadtests.bench.sources import GRPC
from loadtests.bench.systems import System
from tests.load import distinct_images


def measure_added(direct: System, through: Mapping[str, System], options: Options) -> dict[str, Any]:
    """p50 and p99 of each system by protocol, and what it adds to the direct one's: the median of the pairs.

    Args:
        direct: the engine.
        through: what stands in front of it, by name.
        options: how long and how often.

    Raises:
        LoadFailed: a request was not answered.
    """
    images = list(distinct_images(options.images, seed=4))
    systems = {"direct": direct, **through}
    protocols = [*direct.encodings, GRPC]
    loops: dict[str, dict[str, list[Loop]]] = {
        name: {protocol: [] for protocol in protocols if protocol != GRPC or system.grpc}
        for name, system in systems.items()
    }
    for _ in range(options.rounds):
        for protocol in protocols:
            for name, system in systems.items():
                if protocol in loops[name]:
                    measured = measure(system, protocol, images, connections=1, **options.lengths)
                    loops[name][protocol].append(measured.loop)
    return {
        name: {protocol: _cell(rounds, loops["direct"][protocol]) for protocol, rounds in row.items()}
        for name, row in loops.items()
    }


def _cell(rounds: list[Loop], direct: list[Loop]) -> dict[str, float]:
    pairs = [*zip(rounds, direct, strict=True)]
    figures = {
        "p50_ms": statistics.median(one.p50_ms for one in rounds),
        "p99_ms": statistics.median(one.p99_ms for one in rounds),
        "added_p50_ms": statistics.median(one.p50_ms - other.p50_ms for one, other in pairs),
        "added_p99_ms": statistics.median(one.p99_ms - other.p99_ms for one, other in pairs),
    }
    return {name: round(value, 3) for name, value in figures.items()}
