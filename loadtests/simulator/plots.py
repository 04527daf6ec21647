"""Draws the results, in the environment that has Matplotlib.

`.venvs/models/bin/python -m loadtests.simulator.plots`
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

FOLDER = Path(__file__).parents[2] / "docs" / "simulation"
COLOURS = {"p2c": "#0b6fb8", "least_in_flight": "#d1661a", "round_robin": "#2f8f5b", "random": "#8a8a8a"}
"""By policy."""
BUDGETS = {True: ("with the retry budget", "#0b6fb8"), False: ("without a budget", "#c0392b")}
MILLISECONDS = (20, 50, 100, 200, 500, 1000, 2000, 5000)
TITLES = {
    "steady": "all equal",
    "slow": "1 % of them 20 times slower",
    "mixed": "half at full speed, a quarter at 1/2, a quarter at 1/4",
    "flapping": "5 % go down and come up",
    "errors": "all fail from 5 to 25 s",
    "stall": "all are 20 times slower from 5 to 10 s",
}
STYLE = {
    "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "axes.grid": True, "grid.color": "#dddddd",
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "simulation", "figure.facecolor": "white", "lines.linewidth": 1.5,
}  # fmt: skip

Result = Mapping[str, Any]


def latency(results: Sequence[Result]) -> Figure:
    """Which share of the requests takes longer than so many milliseconds, by policy."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2).flat, ("steady", "slow", "mixed", "flapping"), strict=True):
        for result in _of(results, name):
            shares, milliseconds = np.array(result["tail"]).T
            axes.loglog(milliseconds, 1 - shares, color=COLOURS[result["policy"]], label=result["policy"])
        axes.set_xticks(MILLISECONDS, [f"{at:g}" for at in MILLISECONDS])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(20, 6000)
        axes.axhline(0.01, color="#555555", linewidth=0.8, linestyle=":")
        axes.text(axes.get_xlim()[1], 0.0105, "p99", ha="right", va="bottom", fontsize=8, color="#555555")
        _name(axes, TITLES[name], "latency, ms", "share of the requests that take longer")
    figure.axes[0].legend(loc="lower left")
    return figure


def spread(results: Sequence[Result]) -> Figure:
    """How many requests each endpoint served, least busy first."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True).flat, ("steady", "slow"), strict=True):
        for result in _of(results, name):
            served = result["spread"]["served_to_mean"]
            axes.plot(
                np.linspace(0, 100, len(served)),
                served,
                color=COLOURS[result["policy"]],
                label=result["policy"],
            )
        _name(axes, TITLES[name], "endpoints (without the slow ones), %", "requests served, to the mean")
    figure.axes[0].legend(loc="upper left")
    return figure


def storms(results: Sequence[Result]) -> Figure:
    """What the endpoints get and what the clients get, second by second, while all fail and after."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, name in enumerate(("errors", "stall")):
        for result in _of(results, name):
            label, colour = BUDGETS[result["has_budget"]]
            seconds = result["by_second"]
            requests = np.array(seconds["requests"])
            at = np.arange(len(requests)) + 0.5
            grid[0, column].plot(at, np.array(seconds["attempts"]) / requests, color=colour, label=label)
            grid[1, column].plot(
                at, 100 * np.array(seconds["answered"]) / requests, color=colour, label=label
            )
        _name(grid[0, column], TITLES[name], "", "calls to endpoints\nfor each client's request")
        _name(
            grid[1, column], "", "simulated time, s", "answered, % of the requests\nthat came in that second"
        )
    grid[0, 0].axhline(1.2, color="#555555", linewidth=0.8, linestyle=":")
    grid[0, 0].text(39.5, 1.22, "1.2", ha="right", va="bottom", fontsize=8, color="#555555")
    grid[0, 0].legend(loc="upper right")
    return figure


def main() -> int:
    """Read the results, write the figures beside them."""
    results = json.loads((FOLDER / "results.json").read_text())
    mpl.rcParams.update(STYLE)
    for draw in (latency, spread, storms):
        path = FOLDER / f"{draw.__name__}.svg"
        draw(results).savefig(path, metadata={"Date": None})
        sys.stderr.write(f"{path}\n")
    return 0


def _of(results: Sequence[Result], scenario: str) -> list[Result]:
    return [result for result in results if result["scenario"] == scenario]


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


if __name__ == "__main__":
    sys.exit(main())
