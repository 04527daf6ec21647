"""Draws docs/performance/peers.svg from results.json, in the environment that has Matplotlib.

`.venvs/models/bin/python -m loadtests.bench.plots`
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[2] / "docs" / "performance"
OURS, THEIRS = "#0b6fb8", "#9aa5ae"
STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "svg.fonttype": "none", "svg.hashsalt": "bench", "figure.facecolor": "white",
}  # fmt: skip
BARS: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "JSON, 32 in flight: requests a second": lambda row: row["closed"]["JSON"]["per_second"],
    "largest random rate inside the p99 bound": lambda row: row["server"]["per_second"],
    "CPU a JSON request, all processes: us": lambda row: sum(row["closed"]["JSON"]["cpu_us"].values()),
}


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar for each figure of each system that has figures."""
    rows = [row for row in rows if "failed" not in row]
    figure = Figure(figsize=(10, 0.6 + 0.3 * len(rows)), layout="constrained")
    for axes, (title, value) in zip(figure.subplots(1, len(BARS), sharey=True), BARS.items(), strict=True):
        _bars(axes, title, [row["title"] for row in rows], [value(row) for row in rows])
    return figure


def _bars(axes: Axes, title: str, names: Sequence[str], values: Sequence[float]) -> None:
    colours = [OURS if name.startswith("Inferway") else THEIRS for name in names]
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=2, fontsize=8)
    axes.margins(x=0.2)
    axes.set_title(title)
    axes.set_xticks([])
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def main() -> int:
    """Read the results, write the figure beside them."""
    results = json.loads((FOLDER / "results.json").read_text())
    mpl.rcParams.update(STYLE)
    if "systems" in results:
        path = FOLDER / "peers.svg"
        draw(results["systems"]).savefig(path, metadata={"Date": None})
        sys.stderr.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
