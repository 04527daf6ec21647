"""Writes what was measured: docs/performance/results.json, and the tables of docs/performance.md."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.bench.comparison import BOUND_MS, IN_FLIGHT
from loadtests.bench.cost import BARE, PROTOCOLS
from loadtests.bench.larger_models import IN_FLIGHT as IN_FLIGHT_LARGER
from loadtests.bench.sources import BINARY, JSON
from tests.serving import ROOT

PAGE, RESULTS = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance" / "results.json"
BEGIN, END = "<!-- figures: made by `make bench` -->", "<!-- end of figures -->"
NONE = "-"
FAILED = "failed"
"""In the row of a system without figures: why."""
FAILED_CHARACTERS = 200
"""Of the reason in the table; a server that does not start gives the end of its log."""


def write(results: Mapping[str, Any], *, is_kept: bool) -> str:
    """The tables in Markdown; with `is_kept` they and the results go to their files, too."""
    text = page(results)
    if is_kept:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    return text


def page(results: Mapping[str, Any]) -> str:
    """All tables that there are figures for."""
    how = results["options"]
    parts = [
        (
            f"{results['conditions']}; {results['mode']} run of {results['seconds']} s: "
            f"{how['rounds']} rounds of {how['seconds']} s, {how['images']} distinct images; "
            f"{how['open_seconds']:g} s of each rate."
        ),
        f"Not measured in this run: {', '.join(results['not_measured']) or 'nothing was left out'}.",
    ]
    for name, title, table in (
        ("systems", "Inferway beside its peers", systems),
        ("added", "One request in flight", added),
        ("cost", "What a request costs the gateway", cost),
        ("larger", "Larger models", larger),
    ):
        if name in results:
            parts.append(f"### {title}\n\n{table(results[name])}")
    return "\n\n".join(parts) + "\n"


def systems(rows: Sequence[Mapping[str, Any]]) -> str:
    """The comparison; ratios are of pairs that were measured in turn."""
    lines = [
        (
            f"| system | version | JSON, {IN_FLIGHT} in flight: req/s | Inferway to it | p50 / p99 ms "
            "| binary: req/s | best throughput, JSON (in flight) "
            f"| largest rate with p99 <= {BOUND_MS:g} ms | CPU a JSON request, us |"
        ),
        "|---" * 9 + "|",
    ]
    for row in rows:
        if FAILED in row:
            why = " ".join(row[FAILED].replace("|", "/").split())[:FAILED_CHARACTERS]
            lines.append(_row((row["title"], f"**failed: {why}**", *[NONE] * 7)))
            continue
        json_, binary = row["closed"][JSON], row["closed"].get(BINARY)
        cells = (
            row["title"],
            row["version"],
            f"{json_['per_second']:,}",
            f"{row['ours_to_it']:.2f}x",
            f"{json_['p50_ms']:.1f} / {json_['p99_ms']:.1f}",
            f"{binary['per_second']:,}" if binary else NONE,
            f"{row['offline']['per_second']:,} ({row['offline']['in_flight']})",
            f"{row['server']['per_second']:,}" if row["server"]["per_second"] else "none",
            ", ".join(f"{name} {us:.0f}" for name, us in json_["cpu_us"].items()),
        )
        lines.append(_row(cells))
    settings = "\n".join(f"- {row['title']}: {row['settings']}." for row in rows if FAILED not in row)
    return "\n".join(lines) + f"\n\nSettings:\n\n{settings}"


def added(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """p50 and p99 of each system, and what is added to Triton's."""
    protocols = list(rows["direct"])
    lines = [_row(("ms: p50 / p99 (added)", *protocols)), "|---" * (len(protocols) + 1) + "|"]
    for name, row in rows.items():
        cells = [_added_cell(row.get(protocol), is_direct=name == "direct") for protocol in protocols]
        title = "Triton called directly" if name == "direct" else f"{name}, Triton behind"
        lines.append(_row((title, *cells)))
    return "\n".join(lines)


def _added_cell(cell: Mapping[str, float] | None, *, is_direct: bool) -> str:
    if cell is None:
        return NONE
    text = f"{cell['p50_ms']:.2f} / {cell['p99_ms']:.2f}"
    return text if is_direct else f"{text} ({cell['added_p50_ms']:+.2f} / {cell['added_p99_ms']:+.2f})"


def cost(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """CPU a request by protocol and by where the answer is from, and the throughput."""
    lines = [
        _row(
            (
                "CPU us a request; req/s (of Triton's called directly)",
                *(f"{name}: CPU | {name}: req/s" for name in PROTOCOLS),
            )
        ),
        "|---" * (2 * len(PROTOCOLS) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = []
        for protocol in PROTOCOLS:
            cell = row[protocol]
            middle, low, high = cell["cpu_median_low_high_us"]
            text = f"{middle} ({low}-{high})"
            if name != BARE:
                text += f", {cell['to_bare']:.1f}x"
            cells += [text, f"{cell['per_second']:,} ({cell['per_second_to_direct']:.2f}x)"]
        lines.append(_row((name, *cells)))
    return "\n".join(lines)


def larger(models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Throughput of the larger models, and the ratio to ONNX Runtime alone."""
    names = list(next(iter(models.values())))
    lines = [_row((f"binary, {IN_FLIGHT_LARGER} in flight", *models)), "|---" * (len(models) + 1) + "|"]
    for name in names:
        cells = [f"{model[name]['per_second']:g}/s, {model[name]['ratio']:.2f}x" for model in models.values()]
        lines.append(_row((name, *cells)))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
