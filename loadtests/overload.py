"""Overload: what is answered in time when more is asked than can be answered, with and without admission.

    .venvs/dev/bin/python -m loadtests.overload

Real gateways in front of a real Triton with bert_chinese, which answers tens of requests a second: the
engine is the bottleneck, and the client, which shares the machine, costs next to nothing. Every request is
another one (random tokens), the caches are off, and the client tries nothing again. A closed loop finds the
peak; then Poisson arrivals come at multiples of it, whether or not the ones before were answered. The closed
loop is repeated between them, since the machine's speed drifts.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from loadtests import paced_engine
from loadtests.conditions import conditions
from loadtests.overload_client import MODEL, TOKENS, Client, Phase, closed, opened
from services.launch import Running, free_port
from tests.serving import ROOT, StartedGateway, running_gateway, running_triton

Row = tuple[Phase, float]
"""What came of a load, and the peak at that time."""

LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
CLOSED_CONNECTIONS = (2, 4, 8, 16)
PAGE = ROOT / "docs" / "overload.md"
FIGURES = ROOT / "docs" / "reports" / "overload.json"
BEGIN, END = "<!-- figures: made by `loadtests.overload` -->", "<!-- end of figures -->"
COLUMNS = (
    "load",
    "offered a second",
    "in time a second (of the peak)",
    "shed",
    "late",
    "ended > 50 ms late",
    "p50 ms",
    "p99 ms",
    "gateway MiB before, after",
)


class Peak(NamedTuple):
    """The best that a closed loop gets.

    Attributes:
        users: of that loop.
        rate: answers within the deadline a second.
    """

    users: int
    rate: float


async def find_peak(address: str, deadline_seconds: float, seconds: float) -> Peak:
    """The best of several closed loops."""
    client = Client(address, deadline_seconds, random.Random(1))
    await client.until_idle()
    peaks = [Peak(users, await closed_rate(client, users, seconds)) for users in CLOSED_CONNECTIONS]
    client.close()
    sys.stderr.write(f"closed loop: {', '.join(f'{peak.rate:.1f}' for peak in peaks)} a second\n")
    return max(peaks, key=lambda peak: peak.rate)


async def closed_rate(client: Client, users: int, seconds: float) -> float:
    """Answers within the deadline a second."""
    return (await closed(client, users, seconds)).good / seconds


async def measure(gateway: StartedGateway, peak: Peak, deadline_seconds: float, seconds: float) -> list[Row]:
    """Every load, one after the other, each with the peak just before it and just after it.

    The machine's speed drifts: what a load gets is held against the speed that the machine had then.
    """
    rng = random.Random(2)
    client = Client(gateway.http, deadline_seconds, rng)
    rows = []
    await client.until_idle()
    before = await closed_rate(client, peak.users, seconds / 2)
    for load in LOADS:
        await client.until_idle()
        phase = await opened(client, gateway.running.pid, load * peak.rate, load, seconds, rng)
        await client.until_idle()
        after = await closed_rate(client, peak.users, seconds / 2)
        rows.append((phase, (before + after) / 2))
        sys.stderr.write(f"{line(*rows[-1])}\n")
        before = after
    client.close()
    return rows


def line(phase: Phase, peak: float) -> str:
    """One line of the table."""
    goodput = phase.good / phase.duration_seconds
    before, after = (size / 2**20 for size in phase.rss_bytes)
    return (
        f"| {phase.load:g}x | {phase.offered / phase.duration_seconds:.1f} "
        f"| {goodput:.1f} ({goodput / peak:.0%}) "
        f"| {phase.shed} | {phase.late} | {phase.ended_late} "
        f"| {phase.percentile(50) or '-'} | {phase.percentile(99) or '-'} | {before:.0f}, {after:.0f} |"
    )


def report(results: Mapping[str, list[Row]], described: str) -> str:
    """The page's part."""
    lines = [described, ""]
    for name, rows in results.items():
        lines += [
            f"With admission {name}:",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---" * len(COLUMNS) + "|",
            *(line(*row) for row in rows),
            "",
        ]
    lines += ["The same as JSON: `docs/reports/overload.json`.", ""]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and write the figures into docs/overload.md and docs/reports/overload.json."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.overload", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="counted of each load; default: %(default)s"
    )
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds; default: %(default)s")
    parser.add_argument("--paced", action="store_true", help="a stand-in for the engine, of a fixed capacity")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    results: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as name, _engine(Path(name), paced=arguments.paced) as endpoint:
        settings = {
            "models": [str(ROOT / "models" / MODEL)],
            "endpoints": {"triton": endpoint},
            "pools": [{"model": MODEL, "variant": "fp32", "endpoints": ["triton"]}],
            "cache": {"memory_bytes": 0},
            "log": {"level": "error"},
        }
        peak = Peak(0, 0.0)
        for enabled in (True, False):
            folder = Path(name) / f"gateway-{enabled}"
            with running_gateway(folder, {**settings, "admission": {"enabled": enabled}}) as gateway:
                if enabled:
                    peak = asyncio.run(find_peak(gateway.http, arguments.deadline, arguments.seconds / 2))
                rows = asyncio.run(measure(gateway, peak, arguments.deadline, arguments.seconds))
                results["on" if enabled else "off"] = rows
    engine = f"Triton, {MODEL} fp32, {TOKENS} tokens"
    if arguments.paced:
        engine = f"stand-in with one worker, {paced_engine.REQUEST_SECONDS:g} s a request"
    users = ", ".join(map(str, CLOSED_CONNECTIONS))
    described = (
        f"{conditions(('grpcio', 'uvicorn'))}; {engine}; peak of a closed loop with {users} users: "
        f"{peak.rate:.1f} a second with {peak.users}, asked again before and after each load; "
        f"deadlines of {arguments.deadline:g} s; {arguments.seconds:g} s of each load."
    )
    text = report(results, described)
    sys.stdout.write(text)
    if not arguments.no_write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
        phases_of = {key: [_figures(*row) for row in rows] for key, rows in results.items()}
        content = {"conditions": described, "peak_per_second": peak.rate, "admission": phases_of}
        FIGURES.write_text(json.dumps(content, indent=1) + "\n")
    return 0


@contextmanager
def _engine(folder: Path, *, paced: bool) -> Iterator[Mapping[str, Any]]:
    """The engine's endpoint."""
    if not paced:
        with running_triton(folder / "triton", [MODEL]) as triton:
            yield triton.endpoint
        return
    port = free_port()
    with Running(paced_engine.launch(folder=folder, root=ROOT, ports=[port])):
        yield {"backend": "triton", "address": f"127.0.0.1:{port}"}


def _figures(phase: Phase, peak: float) -> dict[str, object]:
    kept = {key: value for key, value in asdict(phase).items() if key != "seconds"}
    return {**kept, "peak_per_second": peak, "p50_ms": phase.percentile(50), "p99_ms": phase.percentile(99)}


if __name__ == "__main__":
    sys.exit(main())
