"""Simulates every scenario; prints the tables and writes them to docs/simulation.md and docs/simulation/."""

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from loadtests.simulator.report import policies_table, storms_table
from loadtests.simulator.scenarios import all_scenarios
from loadtests.simulator.simulation import simulate

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "simulation.md"
RESULTS = ROOT / "docs" / "simulation" / "results.json"
BEGIN, END = "<!-- figures: made by `make simulate` -->", "<!-- end of figures -->"
QUICK_SHRINK = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.simulator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a much smaller fleet; writes nothing")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn; default: %(default)s")
    parser.add_argument("--no-write", action="store_true", help="print only")
    chosen = parser.parse_args(arguments)
    results = list(_results(chosen.seed, QUICK_SHRINK if chosen.quick else 1))
    text = f"{policies_table(results)}\n\n{storms_table(results)}\n"
    sys.stdout.write(text)
    if not (chosen.quick or chosen.no_write):
        RESULTS.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(result, separators=(",", ":")) for result in results)
        RESULTS.write_text(f"[\n{lines}\n]\n")
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    return 0


def _results(seed: int, shrink: int) -> Iterator[dict[str, Any]]:
    """One result a scenario; says on stderr how far it is."""
    scenarios = list(all_scenarios(seed, shrink))
    gc.disable()  # its passes over a million planned events cost more than all the garbage of one simulation
    for number, scenario in enumerate(scenarios, 1):
        started = time.monotonic()
        sys.stderr.write(f"{number}/{len(scenarios)} {scenario.title} ... ")
        sys.stderr.flush()
        yield (result := simulate(scenario))
        sys.stderr.write(f"{result['requests']} requests in {time.monotonic() - started:.1f} s\n")
        gc.collect()
    gc.enable()


if __name__ == "__main__":
    sys.exit(main())
