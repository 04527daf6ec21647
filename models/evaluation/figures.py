"""The figures of a report: SVG to be put into a page, in the page's colours, light or dark."""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

INK, MUTED, LINE = "#010101", "#020202", "#030303"
SERIES = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05", "#0a0a06")
COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)},
}
"""What Matplotlib draws with, and what the page makes of it."""
MARKERS = "osD^vP"
WIDE, HIGH = 4.5, 3.1
"""Inches: about as wide as a phone, so that the text has one size everywhere."""
DARKEST = 0.6
"""Opacity of a confusion matrix's fullest cell: its number stays readable in light and dark."""
MANY = 4
STYLE = {
    "font.size": 10, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9,
    "text.color": INK, "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "axes.edgecolor": LINE, "grid.color": LINE, "axes.grid": True, "axes.axisbelow": True,
    "grid.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.8,
    "svg.fonttype": "none", "svg.hashsalt": "report", "axes.formatter.useoffset": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """A line or a point of a figure.

    Attributes:
        name: in the legend.
        x: along.
        y: up, as many.
        low: where y's error bars or its band begin; there are none where it is empty.
        high: where they end.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def points(curves: Sequence[Curve], *, x: str, y: str, floor: float) -> str:
    """One marker for each curve's point, with error bars; the floor is a dashed line."""
    with _figure(x, y) as (figure, axes):
        axes.axhline(floor, color=MUTED, dashes=(4, 3), linewidth=1.2)
        axes.annotate(
            "floor", (1, floor), (0, 3), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            ha="right", color=MUTED, fontsize=9,
        )  # fmt: skip
        for i, curve in enumerate(curves):
            spread = (
                [np.subtract(curve.y, curve.low), np.subtract(curve.high, curve.y)] if curve.low else None
            )
            axes.errorbar(
                curve.x, curve.y, yerr=spread, fmt=MARKERS[i], color=SERIES[i], markersize=8,
                elinewidth=1.2, label=curve.name,
            )  # fmt: skip
        axes.set_xlim(0, 1.12 * max(curve.x[0] for curve in curves))
        _legend(axes, len(curves))
    return _svg(figure, f"{y} against {x}")


def lines(curves: Sequence[Curve], *, x: str, y: str, log_x: bool = False, marked: bool = True) -> str:
    """One line for each curve, with its spread as a band."""
    with _figure(x, y) as (figure, axes):
        for i, curve in enumerate(curves):
            marker = MARKERS[i] if marked and len(curve.x) <= 60 else None  # noqa: PLR2004 - room for markers
            axes.plot(curve.x, curve.y, color=SERIES[i], marker=marker, markersize=4, label=curve.name)
            if curve.low:
                axes.fill_between(curve.x, curve.low, curve.high, color=SERIES[i], alpha=0.18, linewidth=0)
        if log_x:
            axes.set_xscale("log")
        if len(curves) > 1 or curves[0].name:
            _legend(axes, len(curves))
    return _svg(figure, f"{y} against {x}")


def scatter(right: Sequence[float], answered: Sequence[float], *, x: str, y: str) -> str:
    """Answers against right numbers; the diagonal is where all would be right."""
    with _figure(x, y) as (figure, axes):
        ends = [min(right), max(right)]
        axes.plot(ends, ends, color=MUTED, dashes=(4, 3), linewidth=1.2)
        axes.plot(right, answered, "o", color=SERIES[0], markersize=3, alpha=0.55, markeredgewidth=0)
    return _svg(figure, f"{y} against {x}")


def residuals(answered: Sequence[float], left: Sequence[float]) -> str:
    """What answers are off by, along the answers."""
    with _figure("predicted", "predicted less true") as (figure, axes):
        axes.axhline(0, color=MUTED, dashes=(4, 3), linewidth=1.2)
        axes.plot(answered, left, "o", color=SERIES[0], markersize=3, alpha=0.55, markeredgewidth=0)
    return _svg(figure, "residuals")


def histogram(values: Sequence[float], *, x: str, y: str) -> str:
    """How often values occur."""
    with _figure(x, y) as (figure, axes):
        axes.hist(values, bins=31, color=SERIES[0], alpha=0.75)
        axes.axvline(0, color=MUTED, dashes=(4, 3), linewidth=1.2)
    return _svg(figure, f"{y} against {x}")


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Rows are right, columns are answered.

    The diagonal is shaded by its share of the row, what is wrong by its share of the commonest mistake.
    """
    counts: NDArray[Any] = np.asarray(matrix)
    wrong = counts - np.diag(counts.diagonal())
    shares = np.where(
        wrong > 0, wrong / max(1, wrong.max()), counts / np.maximum(counts.sum(1, keepdims=True), 1)
    )
    size = len(labels)
    with _figure("answered", "right", high=4.3) as (figure, axes):
        axes.grid(visible=False)
        for row, column in np.ndindex(counts.shape):
            is_right = row == column
            shade = (DARKEST if is_right else DARKEST / 2) * shares[row, column]
            colour = SERIES[0] if is_right else SERIES[1]
            axes.add_patch(Rectangle((column, row), 0.96, 0.96, facecolor=colour, alpha=shade, linewidth=0))
            if counts[row, column]:
                text = f"{counts[row, column]}"
                axes.text(
                    column + 0.48,
                    row + 0.5,
                    text,
                    ha="center",
                    va="center",
                    fontsize=11 if size <= MANY else 7.5,
                )
        axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal")
        turned = max(map(len, labels)) > 2 and size > MANY  # noqa: PLR2004 - longer names touch one another
        axes.set_xticks(
            np.arange(size) + 0.5, labels, rotation=45 if turned else 0, ha="right" if turned else "center"
        )
        axes.set_yticks(np.arange(size) + 0.5, labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return _svg(figure, "confusion matrix")


@contextmanager
def _figure(x: str, y: str, *, high: float = HIGH) -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure((WIDE, high), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=x, ylabel=y)
        yield figure, axes


def _legend(axes: Axes, count: int) -> None:
    axes.figure.legend(loc="outside upper left", ncols=min(count, 4), handletextpad=0.3, columnspacing=1.0)


def _svg(figure: Figure, alt: str) -> str:
    """The figure as an element: the page's colours and font, names of its own, no size of its own."""
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for drawn, shown in COLOURS.items():
        text = text.replace(drawn, shown)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", text)
    name = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{alt}">', text, count=1
    )
