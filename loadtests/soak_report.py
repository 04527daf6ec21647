"""Draws a soak, in the environment that has Matplotlib; `--publish` makes it the one of docs/load.md.

.venvs/models/bin/python -m loadtests.soak_report --publish
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.soak import MIB, WARM_UP_RATIO

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "load"
PAGE = ROOT / "docs" / "load.md"
PUBLISHED = ROOT / "docs" / "load"
BEGIN, END = "<!-- figures: made by `loadtests.soak_report --publish` -->", "<!-- end of figures -->"
MEMORY, P99, P50, GRAY = "#0b6fb8", "#d1661a", "#2f8f5b", "#555555"
STYLE = {
    "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "axes.grid": True, "grid.color": "#dddddd",
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "soak", "figure.facecolor": "white", "lines.linewidth": 1.5,
    "lines.marker": ".",
}  # fmt: skip


def draw(soak: Mapping[str, Any]) -> Figure:
    """Memory above, latency below, over the time of the run; what does not count is shaded."""
    windows = soak["windows"]
    minutes = [window["seconds"] / 60 for window in windows]
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    memory, latency = figure.subplots(2, 1, sharex=True)
    memory.plot(minutes, [window["rss_bytes"] / MIB for window in windows], color=MEMORY)
    memory.set_ylabel("resident memory, MiB")
    for name, colour in (("p99", P99), ("p50", P50)):
        values = [1000 * window[f"{name}_seconds"] for window in windows]
        latency.plot(minutes, values, color=colour, label=name)
    latency.set_ylabel("latency, ms")
    latency.set_xlabel("minutes")
    latency.legend(loc="upper right", ncols=2)
    latency.set_xlim(0, soak["settings"]["run_time"] / 60)
    for axes in (memory, latency):
        axes.set_ylim(0, 1.25 * max(axes.dataLim.y1, 1.0))
        _shade(axes, soak["settings"]["run_time"] * WARM_UP_RATIO / 60)
    return figure


def _shade(axes: Axes, until: float) -> None:
    axes.axvspan(0, until, color="#f2f2f2", zorder=0)
    axes.text(0.1, 0.92, "warm-up", color=GRAY, fontsize=8, transform=axes.get_xaxis_transform())


def section(soak: Mapping[str, Any]) -> str:
    """The figures in Markdown."""
    settings = soak["settings"]
    windows = soak["windows"]
    requests, failures = (sum(window[name] for window in windows) for name in ("requests", "failures"))
    models = ", ".join(dict.fromkeys(settings["models"].split()))
    rows = [
        f"| {window['seconds'] / 60:.2f} | {window['requests']} | {window['rss_bytes'] / MIB:.1f} | "
        f"{1000 * window['p50_seconds']:.1f} | {1000 * window['p99_seconds']:.0f} | "
        f"{1000 * window['work_seconds']:.2f} |"
        for window in windows
    ]
    sent = (
        f"{requests:,} requests in {settings['run_time'] / 60:g} minutes, {failures} failures: "
        f"{settings['num_users']} users, each of them at most {settings['pace']:g} a second, "
        f"in turn to {models}; {settings['catalogue']} inputs a model, Zipf exponent {settings['zipf']:g}."
    )
    return "\n".join(
        [
            f"Verdict: **{soak['verdict']}**.",
            "",
            sent,
            f"Answered by: {soak['answered_by']}.",
            "",
            f"{soak['conditions']}.",
            "",
            "![Resident memory and latency over the soak](load/soak.svg)",
            "",
            "| minute | requests | memory, MiB | p50, ms | p99, ms | fixed work, ms |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the last soak; publish it where that is asked for."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the soak's figures are")
    parser.add_argument("--publish", action="store_true", help="into docs/load.md, too")
    options = parser.parse_args(argv)
    soak = json.loads((options.folder / "soak.json").read_text())
    mpl.rcParams.update(STYLE)
    draw(soak).savefig(options.folder / "soak.svg", metadata={"Date": None})
    if options.publish:
        PUBLISHED.mkdir(exist_ok=True)
        for name in ("soak.json", "soak.svg"):
            shutil.copyfile(options.folder / name, PUBLISHED / name)
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{section(soak)}\n\n{END}{rest.partition(END)[2]}")
    sys.stdout.write(f"soak: {options.folder / 'soak.svg'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
