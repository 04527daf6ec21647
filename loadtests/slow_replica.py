"""p99 with one of four replicas slowed down, through the gateway and HAProxy's `leastconn`, in one run.

Four stand-ins for a model server (`loadtests.paced_replica`) answer one request at a time, each in the same
time. They serve HAProxy and gateways at once. Then one of them is slowed down, and the same client sends
the same requests (Open Inference Protocol over gRPC, each input new, at random times of a fixed rate: an
open loop) over each path in turn, round by round. A request's time runs from the moment at which it was
due. Every answer is checked; nobody retries but the gateway. The results go into docs/slow-replica.md and
docs/slow-replica.json.

HAProxy must be installed: `apt-get install haproxy`.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests import paced_replica
from loadtests.conditions import conditions
from loadtests.haproxy import haproxy_version, running_haproxy
from loadtests.open_loop import Outcome, drive
from services.launch import Running, free_port
from tests.serving import ROOT, running_gateway

REPLICAS = 4
HAPROXY = "HAProxy `leastconn`"
PATHS: Mapping[str, Mapping[str, Any]] = {
    "Inferway": {},
    "Inferway, no hedging": {"hedging": {"enabled": False}},
    "Inferway, `least_in_flight`, no hedging": {
        "hedging": {"enabled": False},
        "balancing": {"policy": "least_in_flight"},
    },
}
"""What each gateway's settings have beside the endpoints."""
TARGET_RATIO = 0.7
PAGE, RESULTS = ROOT / "docs" / "slow-replica.md", ROOT / "docs" / "slow-replica.json"
BEGIN, END = "<!-- figures: made by loadtests.slow_replica -->", "<!-- end of figures -->"


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Outcome]:
    """Every path's outcome, over all rounds."""
    ports = [free_port() for _ in range(REPLICAS)]
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(
                Running(
                    paced_replica.launch(
                        folder=folder,
                        root=ROOT,
                        port=port,
                        seconds=options.seconds,
                        slowdown=options.slowdown,
                    )
                )
            )
            for port in ports
        ]
        addresses = {HAPROXY: stack.enter_context(running_haproxy(folder, ports, is_grpc=True)).address}
        endpoints = {f"r{port}": {"backend": "triton", "address": f"127.0.0.1:{port}"} for port in ports}
        for number, (name, more) in enumerate(PATHS.items()):
            # A stand-in answers one row, whatever it is asked.
            apart = {"cache": {"memory_bytes": 0}, "batching": {"enabled": False}}
            settings = {"endpoints": endpoints, **apart, **more}
            gateway = stack.enter_context(running_gateway(folder / str(number), settings))
            addresses[name] = gateway.grpc

        def one_round(name: str, seconds: float, seed: int) -> Outcome:
            count = round(seconds * options.rate)
            outcome = asyncio.run(drive(addresses[name], rate=options.rate, count=count, seed=seed))
            sys.stderr.write(
                f"{name}: {count} requests, {len(outcome.failed)} failed, "
                f"p50 {outcome.milliseconds(50):.0f} ms, p99 {outcome.milliseconds(99):.0f} ms\n"
            )
            return outcome

        for name in addresses:
            one_round(name, options.warm_up, seed=0)
        replicas[0].process.send_signal(signal.SIGUSR1)
        sys.stderr.write(f"one of {REPLICAS} replicas is {options.slowdown:g} times slower from here\n")
        total = {name: Outcome() for name in addresses}
        for seed in range(1, options.rounds + 1):
            for name, outcome in total.items():
                part = one_round(name, options.round_seconds, seed)
                outcome.seconds += part.seconds
                outcome.failed += part.failed
    return total


def table(outcomes: Mapping[str, Outcome]) -> str:
    """The outcomes in Markdown."""
    reference = outcomes[HAPROXY].milliseconds(99)
    lines = [
        "| path | requests | failed | p50 ms | p90 | p99 | p99.9 | p99 to HAProxy's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, outcome in outcomes.items():
        percentiles = " | ".join(f"{outcome.milliseconds(at):.0f}" for at in (50, 90, 99, 99.9))
        ratio = outcome.milliseconds(99) / reference
        requests = len(outcome.seconds) + len(outcome.failed)
        lines.append(f"| {name} | {requests} | {len(outcome.failed)} | {percentiles} | {ratio:.2f} |")
    return "\n".join(lines)


def described(options: argparse.Namespace) -> str:
    """Under which conditions, in one sentence."""
    replicas = f"{REPLICAS} replicas of {options.seconds * 1e3:g} ms, one {options.slowdown:g} times slower"
    load = (
        f"{options.rate:g} requests a second, {options.rounds} rounds of {options.round_seconds:g} s a path"
    )
    return f"{conditions(('grpcio',))}, HAProxy {haproxy_version()}; {replicas}; {load}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; exit code 1 when a request failed or the target was missed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.slow_replica", description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="of each path; default: %(default)s")
    parser.add_argument("--round-seconds", type=float, default=15.0, help="default: %(default)s")
    parser.add_argument(
        "--warm-up", type=float, default=3.0, help="seconds before the slow one; default: %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=0.02, help="of one inference; default: %(default)s")
    parser.add_argument("--slowdown", type=float, default=20.0, help="of one replica; default: %(default)s")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = measure(Path(folder), options)
    text = f"{described(options)}\n\n{table(outcomes)}\n"
    sys.stdout.write(text)
    if not options.no_write:
        figures = {
            name: {f"p{at:g}_ms": round(outcome.milliseconds(at), 1) for at in (50, 90, 99, 99.9)}
            | {"requests": len(outcome.seconds) + len(outcome.failed), "failed": len(outcome.failed)}
            for name, outcome in outcomes.items()
        }
        RESULTS.write_text(json.dumps({"conditions": described(options), "paths": figures}, indent=1) + "\n")
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    failed = [text for name, outcome in outcomes.items() if name != HAPROXY for text in outcome.failed]
    is_met = outcomes["Inferway"].milliseconds(99) <= TARGET_RATIO * outcomes[HAPROXY].milliseconds(99)
    for line in failed[:5]:
        sys.stderr.write(f"failed: {line}\n")
    return int(bool(failed) or not is_met)


if __name__ == "__main__":
    sys.exit(main())
