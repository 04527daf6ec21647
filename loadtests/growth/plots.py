"""Draws docs/growth/growth.svg from the results, in the environment that has Matplotlib.

`.venvs/models/bin/python -m loadtests.growth.plots`
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.growth.report import HEADS, shown_size

FOLDER = Path(__file__).parents[2] / "docs" / "growth"
COLOURS = {"hit": "#0b6fb8", "miss": "#d1661a"}
"""By path."""
TARGET = 1.1
"""The most that a request may cost at 64 endpoints or 1,000 models, to what it costs at 1."""
STYLE = {
    "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "axes.grid": True, "grid.color": "#dddddd",
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "growth", "figure.facecolor": "white", "lines.linewidth": 1.5,
}  # fmt: skip


def growth(results: Mapping[str, Any]) -> Figure:
    """One panel a curve: the ratio to the first size, with the rounds' lowest and highest."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2).flat, HEADS, strict=True):
        _draw(axes, name, results[name]["points"])
    figure.axes[0].legend(loc="upper left")
    return figure


def _draw(axes: Axes, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    for path, colour in COLOURS.items():
        here = [point for point in points if point["path"] == path]
        if here:
            sizes = [point["size"] for point in here]
            low, high = zip(*(point["ratios"] for point in here), strict=True)
            axes.plot(sizes, [point["ratio"] for point in here], "o-", color=colour, markersize=3, label=path)
            axes.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
    sizes = list(dict.fromkeys(point["size"] for point in points))
    axes.set_xscale("log")
    axes.set_xticks(sizes, [shown_size(name, size) for size in sizes])
    axes.minorticks_off()
    if name == "payload_bytes":
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, max(1.5, 1.1 * max(point["ratios"][1] for point in points)))
    if name in {"endpoints", "models"}:
        axes.axhline(TARGET, color="#555555", linewidth=0.8, linestyle=":")
    axes.set_title(f"CPU a request by {HEADS[name]}")
    axes.set_ylabel(f"to {shown_size(name, sizes[0])}")


def main() -> int:
    """Read the results, write the figure beside them."""
    mpl.rcParams.update(STYLE)
    path = FOLDER / "growth.svg"
    growth(json.loads((FOLDER / "results.json").read_text())).savefig(path, metadata={"Date": None})
    sys.stderr.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
