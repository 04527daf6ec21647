"""The tables of docs/growth.md, from the results."""

from collections.abc import Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- figures: made by `make growth` -->", "<!-- end of figures -->"
HEADS = {
    "endpoints": "endpoints",
    "models": "models",
    "payload_bytes": "payload",
    "connections": "connections",
}
"""What a curve's size is, by its name."""

Result = Mapping[str, Any]


def page_with(page: str, results: Mapping[str, Result]) -> str:
    """The page, with the tables of these results in place of those that it had."""
    tables = "\n\n".join(
        f"{result['conditions']}.\n\n{table(name, result)}" for name, result in results.items()
    )
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}"


def table(name: str, result: Result) -> str:
    """One curve in Markdown: a row for each size."""
    points: Sequence[Mapping[str, Any]] = result["points"]
    paths = list(dict.fromkeys(point["path"] for point in points))
    rests = any(point["idle_ms"] is not None for point in points)
    heads = [HEADS[name], *(f"{path}: CPU us, ratio" for path in paths)]
    heads += ["idle CPU, ms a second", "`GET /metrics`: CPU ms, KB"] if rests else []
    rows = [heads, ["---"] * len(heads)]
    for size in dict.fromkeys(point["size"] for point in points):
        here = [point for point in points if point["size"] == size]
        cells = [shown_size(name, size), *map(_cost, here)]
        if rests:
            rest = next(point for point in here if point["idle_ms"] is not None)
            cells += [f"{rest['idle_ms']:.0f}", f"{rest['scrape_ms']:.0f}, {rest['scrape_bytes'] / 1e3:.0f}"]
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown_size(name: str, size: int) -> str:
    """A size as people read it."""
    if name != "payload_bytes":
        return str(size)
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _cost(point: Mapping[str, Any]) -> str:
    low, high = point["ratios"]
    return f"{point['cpu_us']:.0f}, {point['ratio']:.2f}x ({low:.2f}-{high:.2f})"
