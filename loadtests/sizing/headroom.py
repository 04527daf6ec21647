"""How the wait grows with the share of its capacity that a gateway is asked for: an open loop over hits."""

import asyncio
from pathlib import Path
from typing import Any

from loadtests.bench.closed_loop import http_loop
from loadtests.bench.http_client import open_loop
from loadtests.bench.measure import fill, say
from loadtests.bench.sources import BINARY
from loadtests.bench.systems import running_inferway
from loadtests.sizing.processes import CONNECTIONS, IMAGES
from tests.load import distinct_images
from tests.serving import Engine

SHARES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def measure_headroom(folder: Path, triton: Engine, seconds: int) -> dict[str, Any]:
    """Capacity in a closed loop, then p50 and p99 at shares of it; nobody else's speed is in these.

    Args:
        folder: for configuration and logs.
        triton: fills the cache.
        seconds: of each rate.
    """
    images = list(distinct_images(IMAGES))
    with running_inferway(
        folder / "headroom", triton.endpoint, title="headroom", pids={}, cache={}
    ) as system:
        fill(system, images)
        requests = system.encodings[BINARY].requests(images)
        http_loop(system.address, requests, connections=CONNECTIONS, seconds=1)
        capacity = http_loop(system.address, requests, connections=CONNECTIONS, seconds=seconds).per_second
        rows = []
        for number, share in enumerate(SHARES):
            arrived = asyncio.run(
                open_loop(system.address, requests, rate=share * capacity, seconds=seconds, seed=number)
            )
            p50, p99 = (round(arrived.milliseconds(percentile), 2) for percentile in (50, 99))
            say(f"{share:.0%} of {capacity:.0f}/s: p50 {p50} ms, p99 {p99} ms, failed {arrived.failed}")
            rows.append({"share": share, "p50_ms": p50, "p99_ms": p99, "failed": arrived.failed})
    return {"per_second": round(capacity), "rates": rows}
