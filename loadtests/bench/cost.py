"""What a request costs the gateway, by protocol and by where the answer comes from, at 32 in flight.

In turn with each round the same requests go to Triton called directly, and to the bare servers of
`bare_server.py`, which show what the libraries below the gateway cost when nothing is done.
"""

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from loadtests import bare_server
from loadtests.bench.comparison import IN_FLIGHT
from loadtests.bench.measure import Measured, Options, fill, measure, median, ratio
from loadtests.bench.sources import BINARY, GRPC, JSON
from loadtests.bench.systems import CACHE_OFF, OIP, System, running_inferway, triton_system
from services.launch import Running, free_port
from tests.load import distinct_images
from tests.serving import ROOT, Engine, running_redis

PROTOCOLS = (BINARY, JSON, GRPC)
BARE, DIRECT, MISS = "bare server", "Triton called directly", "miss"


def measure_cost(folder: Path, triton: Engine, options: Options) -> dict[str, Any]:
    """Every path and protocol, for the page's JSON.

    Raises:
        LoadFailed: a request was not answered.
    """
    images = list(distinct_images(options.images, seed=3))
    with ExitStack() as stack:
        systems = {BARE: stack.enter_context(_running_bare(folder)), DIRECT: triton_system(triton)}
        _, port = stack.enter_context(running_redis(folder / "redis"))
        redis = {**CACHE_OFF, "redis": {"url": f"redis://127.0.0.1:{port}/0"}}
        for name, cache in {"memory hit": {}, "Redis hit": redis, MISS: CACHE_OFF}.items():
            pids = {"Triton": triton.running.pid} if name == MISS else {}
            gateway = running_inferway(
                folder / name.replace(" ", "-"), triton.endpoint, title=name, pids=pids, cache=cache
            )
            systems[name] = stack.enter_context(gateway)
            fill(systems[name], images)
        figures: dict[str, dict[str, list[Measured]]] = {
            name: {protocol: [] for protocol in PROTOCOLS} for name in systems
        }
        for _ in range(options.rounds):
            for protocol in PROTOCOLS:
                for name, system in systems.items():
                    figures[name][protocol].append(
                        measure(system, protocol, images, connections=IN_FLIGHT, **options.lengths)
                    )
    return {name: _row(row, figures[BARE], figures[DIRECT]) for name, row in figures.items()}


Row = Mapping[str, list[Measured]]


def _row(row: Row, bare: Row, direct: Row) -> dict[str, Any]:
    """By protocol: the median round; its first process' CPU, and that to the bare server's."""
    cells = {}
    for protocol, rounds in row.items():
        process = next(iter(rounds[0].cpu_us))
        cpu_us = [one.cpu_us[process] for one in rounds]
        bare_us = [next(iter(one.cpu_us.values())) for one in bare[protocol]]
        to_bare = statistics.median(a / b for a, b in zip(cpu_us, bare_us, strict=True))
        spread_us = [round(low) for low in (statistics.median(cpu_us), min(cpu_us), max(cpu_us))]
        cells[protocol] = {
            **median(rounds).as_json(),
            "cpu_median_low_high_us": spread_us,
            "to_bare": round(to_bare, 2),
            "per_second_to_direct": round(ratio(rounds, direct[protocol]), 2),
        }
    return cells


@contextmanager
def _running_bare(folder: Path) -> Iterator[System]:
    http_port, grpc_port = free_port(), free_port()
    launch = bare_server.launch(folder=folder, root=ROOT, http_port=http_port, grpc_port=grpc_port)
    with Running(launch) as running:
        address, grpc = f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"
        yield System(BARE, address, OIP, {"bare server": running.pid}, "", "", grpc)
