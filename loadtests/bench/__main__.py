"""`make bench`: measures every part and writes docs/performance/results.json and docs/performance.md."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.bench.added_latency import measure_added
from loadtests.bench.answers import WrongAnswer
from loadtests.bench.closed_loop import LoadFailed
from loadtests.bench.comparison import compare
from loadtests.bench.cost import measure_cost
from loadtests.bench.larger_models import THROUGH_EMBEDDED, THROUGH_TRITON, measure_larger
from loadtests.bench.measure import QUICK, Options, say
from loadtests.bench.peer_settings import PEERS
from loadtests.bench.report import FAILED, write
from loadtests.bench.systems import (
    System,
    running_inferway,
    running_peer,
    running_proxy,
    triton_system,
)
from loadtests.conditions import conditions
from services.launch import LaunchError
from tests.serving import EMBEDDED, ROOT, Engine, running_triton

TRITON, HAPROXY = "triton", "haproxy"
TITLES = {TRITON: "Triton", HAPROXY: "HAProxy", **{name: peer.title for name, peer in PEERS.items()}}
SELECTABLE = tuple(TITLES)
PARTS = ("peers", "added", "cost", "larger")
QUICK_PARTS = PARTS[:3]
Start = Callable[[Path], AbstractContextManager[System]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 1 when anything could not be measured, with one line that names it.

    A peer that fails is a row of the page that says so; whatever else fails ends the run: nothing is written.
    """
    options = _parsed(arguments)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="bench"))  # stays, with its logs, when a system fails
    try:
        results = measure_all(folder, options)
    except (LaunchError, LoadFailed, WrongAnswer) as error:
        say(f"the benchmark failed: {error}")
        return 1
    results["seconds"] = round(time.monotonic() - began)
    text = write(results, is_kept=not options.no_write)
    sys.stdout.write(text)
    failed = [row for row in results.get("systems", ()) if FAILED in row]
    for row in failed:
        say(f"NOT MEASURED: {row['title']} failed: {row[FAILED]}")
    if failed:
        say(f"their logs: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short loops, one round: to see that it works")
    parser.add_argument("--peers", default="", help=f"only these, by commas; default: {','.join(SELECTABLE)}")
    parser.add_argument("--parts", default="", help=f"only these, by commas; default: {','.join(PARTS)}")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    for name, known, usual in (
        ("peers", SELECTABLE, SELECTABLE),
        ("parts", PARTS, QUICK_PARTS if options.quick else PARTS),
    ):
        chosen = tuple(filter(None, getattr(options, name).split(","))) or usual
        if unknown := set(chosen).difference(known):
            parser.error(f"--{name}: not known: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        setattr(options, name, chosen)
    return options


def left_out(peers: Collection[str], parts: Collection[str]) -> list[str]:
    """What a run with these leaves out: written into the results, so that nothing is skipped in silence."""
    names = [TITLES[name] for name in SELECTABLE if name not in peers]
    return [*names, *(f"part `{part}`" for part in PARTS if part not in parts)]


def measure_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every chosen part.

    Raises:
        LaunchError, LoadFailed: ours, or the engine, failed.
        WrongAnswer: see there.
    """
    how = QUICK if options.quick else Options()
    results: dict[str, Any] = {
        "conditions": conditions(("onnxruntime", "uvicorn", "grpcio", "orjson")),
        "mode": "quick" if options.quick else "full",
        "options": asdict(how),
        "not_measured": left_out(options.peers, options.parts),
    }
    with (
        running_triton(folder / "triton") as triton,
        running_inferway(
            folder / "behind",
            triton.endpoint,
            title=THROUGH_TRITON,
            pids={"Triton": triton.running.pid},
        ) as ours,
    ):
        if "cost" in options.parts:
            results["cost"] = measure_cost(folder / "cost", triton, how)
        if "added" in options.parts:
            with running_proxy(triton, folder / "added") as proxy:
                through = {"Inferway": ours, "HAProxy": proxy}
                results["added"] = measure_added(triton_system(triton), through, how)
        if "peers" in options.parts:
            results["systems"] = [compare(ours, how)]
            for name, running in _others(triton, options.peers):
                say(f"==> {name}")
                results["systems"].append(_compared(name, running, folder, how, ours))
    if "larger" in options.parts:
        results["larger"] = measure_larger(folder / "larger", how)
    return results


def _compared(name: str, running: Start, folder: Path, how: Options, ours: System) -> dict[str, Any]:
    """A system beside ours; one that fails is started once more, which the page says, as when it fails again.

    Raises:
        WrongAnswer: it answers something else than the model.
    """
    said = []
    for attempt in (name, f"{name}-again"):
        try:
            with running(folder / attempt) as system:
                row = compare(system, how, ours)
        except (LaunchError, LoadFailed) as error:
            say(f"{name} failed: {error}")
            said.append(str(error).replace(f"{folder}/", "").replace(f"{ROOT}/", ""))  # for a page
        else:
            retried = "; failed in a first try, and was started once more" if said else ""
            return {**row, "settings": f"{row['settings']}{retried}"}
    return {"title": TITLES.get(name, THROUGH_EMBEDDED), FAILED: said[-1]}


def _others(triton: Engine, peers: Collection[str]) -> Iterator[tuple[str, Start]]:
    """What is compared with ours: its name, and what starts it with a folder."""
    yield "embedded", partial(running_inferway, endpoint=EMBEDDED, title=THROUGH_EMBEDDED, pids={})
    if TRITON in peers:
        yield TRITON, lambda _: nullcontext(triton_system(triton))
    if HAPROXY in peers:
        yield HAPROXY, partial(running_proxy, triton)
    for name in PEERS:
        if name in peers:
            yield name, partial(running_peer, name)


if __name__ == "__main__":
    sys.exit(main())
