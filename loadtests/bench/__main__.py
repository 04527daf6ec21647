"""`make bench`: measures every part and writes docs/performance/results.json and the tables of docs/performance.md."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.bench.added_latency import measure_added
from loadtests.bench.closed_loop import LoadFailed
from loadtests.bench.comparison import compare
from loadtests.bench.cost import measure_cost
from loadtests.bench.larger_models import THROUGH_EMBEDDED, THROUGH_TRITON, measure_larger
from loadtests.bench.measure import QUICK, Options, say
from loadtests.bench.peer_settings import PEERS
from loadtests.bench.report import write
from loadtests.bench.systems import WrongAnswer, running_inferway, running_peer, running_proxy, triton_system
from loadtests.conditions import conditions
from services.launch import LaunchError
from tests.serving import EMBEDDED, running_triton

TRITON, HAPROXY = "triton", "haproxy"
SELECTABLE = (TRITON, HAPROXY, *PEERS)
PARTS = ("peers", "added", "cost", "larger")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; exit code 1, with one line that names what could not be measured, when anything failed."""
    options = _parsed(arguments)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            results = measure_all(Path(folder), options)
    except (LaunchError, LoadFailed, WrongAnswer) as error:
        say(f"the benchmark failed: {error}")
        return 1
    results["seconds"] = round(time.monotonic() - began)
    text = write(results, is_kept=not options.no_write)
    sys.stdout.write(text)
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short loops, one round: to see that it works")
    parser.add_argument("--peers", default="", help=f"only these, by commas; default: {','.join(SELECTABLE)}")
    parser.add_argument("--parts", default="", help=f"only these, by commas; default: {','.join(PARTS)}")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    for name, known in (("peers", SELECTABLE), ("parts", PARTS)):
        chosen = tuple(filter(None, getattr(options, name).split(","))) or known
        if unknown := set(chosen).difference(known):
            parser.error(f"--{name}: not known: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        setattr(options, name, chosen)
    return options


def measure_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every chosen part.

    Raises:
        LaunchError, LoadFailed, WrongAnswer: see there; a peer that was chosen is measured or ends the run.
    """
    how = QUICK if options.quick else Options()
    not_measured = [PEERS[name].title if name in PEERS else name for name in SELECTABLE if name not in options.peers]
    results: dict[str, Any] = {
        "conditions": conditions(("onnxruntime", "uvicorn", "grpcio", "orjson")),
        "mode": "quick" if options.quick else "full",
        "options": asdict(how),
        "not_measured": not_measured + [f"part {part}" for part in PARTS if part not in options.parts],
    }
    with running_triton(folder / "triton") as triton:
        behind = partial(
            running_inferway,
            endpoint=triton.endpoint,
            title=THROUGH_TRITON,
            pids={"Triton": triton.running.pid},
        )
        if "cost" in options.parts:
            results["cost"] = measure_cost(folder / "cost", triton, how)
        if "added" in options.parts:
            with behind(folder / "added") as gateway, running_proxy(triton, folder / "added-haproxy") as proxy:
                through = {"Inferway": gateway, "HAProxy": proxy}
                results["added"] = measure_added(triton_system(triton), through, how)
        if "peers" in options.parts:
            with behind(folder / "behind") as gateway:
                results["systems"] = [compare(gateway, how)]
            if TRITON in options.peers:
                results["systems"].append(compare(triton_system(triton), how))
            if HAPROXY in options.peers:
                with running_proxy(triton, folder / "haproxy") as proxy:
                    results["systems"].append(compare(proxy, how))
    if "peers" in options.parts:
        with running_inferway(folder / "embedded", EMBEDDED, title=THROUGH_EMBEDDED, pids={}) as gateway:
            results["systems"].append(compare(gateway, how))
        for name in PEERS:
            if name in options.peers:
                say(f"==> {PEERS[name].title}")
                with running_peer(name, folder / name) as peer:
                    results["systems"].append(compare(peer, how))
    if "larger" in options.parts:
        results["larger"] = measure_larger(folder / "larger", how)
    return results


if __name__ == "__main__":
    sys.exit(main())
