"""Measures what docs/sizing.md is computed from, and writes that page and the autoscalers' targets.

`make sizing` does all of it. `--written` measures nothing: it computes anew from docs/sizing/measured.json.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.conditions import conditions
from loadtests.sizing.headroom import measure_headroom
from loadtests.sizing.processes import CONNECTIONS, measure_processes
from loadtests.sizing.report import MEASURED, figures, write
from tests.serving import running_triton


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.sizing", description=__doc__)
    parser.add_argument("--written", action="store_true", help="compute anew from what was measured")
    parser.add_argument("--rounds", type=int, default=3, help="of each; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="a round; default: %(default)s")
    parser.add_argument("--no-write", action="store_true", help="print only")
    chosen = parser.parse_args(arguments)
    if chosen.written:
        measured = json.loads(MEASURED.read_text())
    else:
        plan = f"{chosen.rounds} rounds of {chosen.seconds} s, {CONNECTIONS} in flight"
        with tempfile.TemporaryDirectory() as name, running_triton(Path(name) / "triton") as triton:
            folder = Path(name)
            measured = {
                "conditions": f"{conditions(('grpcio', 'uvicorn', 'orjson'))}; {plan}",
                "processes": measure_processes(folder, triton, chosen.rounds, chosen.seconds),
                "headroom": measure_headroom(folder, triton, chosen.seconds),
            }
    sys.stdout.write(f"{figures(measured)}\n")
    if not chosen.no_write:
        MEASURED.parent.mkdir(exist_ok=True)
        MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
        write(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
