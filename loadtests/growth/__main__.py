"""Measures the curves; writes docs/growth/results.json and the tables of docs/growth.md.

`make growth` does all of it and then draws. With names of curves only those are measured, and the others stay
as they were.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from loadtests.conditions import conditions
from loadtests.growth.curves import CURVES, QUICK, Plan, measured
from loadtests.growth.report import page_with
from loadtests.growth.rig import rig
from tests.serving import ROOT

PAGE = ROOT / "docs" / "growth.md"
RESULTS = ROOT / "docs" / "growth" / "results.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.growth", description=__doc__)
    parser.add_argument("curves", nargs="*", metavar="curve", help=f"of {', '.join(CURVES)}; default: all")
    parser.add_argument("--requests", type=int, default=Plan.requests, help="a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help="a point; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="few sizes and requests; writes nothing")
    parser.add_argument("--no-write", action="store_true", help="print only")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.curves) - set(CURVES):
        parser.error(f"there is no curve {', '.join(sorted(unknown))}")
    plan = QUICK if chosen.quick else Plan(requests=chosen.requests, rounds=chosen.rounds)
    found = {}
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder), max(plan.endpoints)) as started:
        for curve in chosen.curves or CURVES:
            points = list(_said(curve, measured(started, plan, curve)))
            found[curve] = {"conditions": _conditions(plan), "points": points}
    if not (chosen.quick or chosen.no_write):
        RESULTS.parent.mkdir(exist_ok=True)
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results = {curve: {**before, **found}[curve] for curve in CURVES if curve in {**before, **found}}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page_with(PAGE.read_text(), results))
    return 0


def _said(curve: str, points: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for point in points:
        text = f"{point['cpu_us']:.0f} us CPU a request, {point['ratio']:.2f}x"
        sys.stdout.write(f"{curve} {point['size']}, {point['path']}: {text}\n")
        sys.stdout.flush()
        yield point


def _conditions(plan: Plan) -> str:
    where = conditions(("grpcio", "uvicorn", "orjson"))
    return f"{where}; {plan.rounds} rounds of {plan.requests} requests"


if __name__ == "__main__":
    sys.exit(main())
