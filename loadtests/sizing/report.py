"""What docs/sizing.md shows of the measurements, and the autoscalers' targets that follow from them."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.sizing.formula import (
    TARGET_SHARE,
    in_flight_target,
    largest_share,
    replicas,
    request_us,
    wait_p99_seconds,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "sizing.md"
MEASURED = ROOT / "docs" / "sizing" / "measured.json"
BEGIN, END = "<!-- figures: made by `make sizing` -->", "<!-- end of figures -->"
COMPONENTS = ROOT / "deploy" / "k8s" / "components"
TARGETS: Mapping[Path, tuple[str, str]] = {
    COMPONENTS / "autoscaling" / "autoscaler.yaml": (r"(averageUtilization: )\d+", r'(averageValue: ")\d+'),
    COMPONENTS / "keda" / "scaled-object.yaml": (r'(metadata: {value: ")\d+', r'(threshold: ")\d+'),
}
"""Where the two targets stand: CPU in percent, then requests in flight."""
EXAMPLES = (
    ("cnn_mnist", "fp32", 5000, 0.5, 0.05),
    ("cnn_mnist", "fp32", 5000, 0.0, 0.05),
    ("mobilenet_v2", "fp32", 500, 0.3, 0.1),
    ("mobilenet_v2", "int8", 500, 0.3, 0.1),
    ("bert_chinese", "fp32", 200, 0.2, 0.1),
    ("bert_chinese", "pruned_int8", 200, 0.2, 0.1),
)
"""Model, variant, requests a second, share that the cache answers, p99 in seconds."""

Measured = Mapping[str, Any]


def write(measured: Measured) -> None:
    """Write the page's figures, and the targets into the manifests."""
    PAGE.write_text(page(PAGE.read_text(), measured))
    for path in TARGETS:
        path.write_text(manifest(path, measured))


def page(before: str, measured: Measured) -> str:
    """The page with these figures in place of those that it had."""
    head, _, rest = before.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{figures(measured)}\n\n{END}{rest.partition(END)[2]}"


def targets(measured: Measured) -> tuple[int, int]:
    """The autoscalers' targets: CPU in percent of a core, and requests in flight, for each gateway."""
    return round(TARGET_SHARE * 100), in_flight_target(_one(measured, "miss")["gateway_us"])


def manifest(path: Path, measured: Measured) -> str:
    """One of `TARGETS` with the targets in it."""
    text = path.read_text()
    for pattern, target in zip(TARGETS[path], targets(measured), strict=True):
        text = re.sub(pattern, rf"\g<1>{target}", text)
    return text


def figures(measured: Measured) -> str:
    """All tables, Markdown."""
    cpu, in_flight = targets(measured)
    headroom = measured["headroom"]
    parts = (
        f"{measured['conditions']}.",
        "**Processes**, on the same cores as the client and Triton:",
        _processes(measured["processes"]),
        f"**Headroom**: hits of one process, which can answer {headroom['per_second']} a second:",
        _headroom(headroom),
        f"**Autoscaling**: {cpu} % of one core, or {in_flight} requests in flight, for each gateway.",
        "**Examples**, by the formulas above:",
        _examples(measured),
    )
    return "\n\n".join(parts)


def _processes(paths: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    rows = [
        (
            path,
            f"{row['processes']}",
            f"{row['per_second']} ({row['throughput_ratio']:.2f}x)",
            f"{row['gateway_us']:.0f} ({row['cpu_ratio']:.2f}x)",
            f"{row['engine_us']:.0f}",
            f"{row['p99_ms']:.1f}",
        )
        for path, both in paths.items()
        for row in both
    ]
    head = ("path", "processes", "requests a second", "gateway's CPU us a request", "Triton's", "p99 ms")
    return _table(head, rows)


def _headroom(headroom: Mapping[str, Any]) -> str:
    service = 1 / headroom["per_second"]
    rows = [
        (
            f"{row['share']:.0%}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{1e3 * (service + wait_p99_seconds(service, row['share'])):.2f}",
        )
        for row in headroom["rates"]
    ]
    return _table(("share of capacity", "p50 ms", "p99 ms", "p99 by the formula, ms"), rows)


def _examples(measured: Measured) -> str:
    hit_us, miss_us = (_one(measured, path)["gateway_us"] for path in ("hit", "miss"))
    rows = []
    for model, variant, rate, hit_ratio, p99_seconds in EXAMPLES:
        engine_us = (
            _one(measured, "miss")["engine_us"] if model == "cnn_mnist" else _inference_us(model, variant)
        )
        share = largest_share(engine_us / 1e6, p99_seconds)
        misses = rate * (1 - hit_ratio)
        rows.append(
            (
                f"`{model}`, {variant}",
                f"{rate}",
                f"{hit_ratio:.0%}",
                f"{1e3 * p99_seconds:.0f}",
                f"{replicas(rate, request_us(hit_us, miss_us, hit_ratio))}",
                f"{engine_us / 1e3:.2f}",
                f"{share:.0%}",
                f"{replicas(misses, engine_us, share=share)}" if share else "cannot",
            )
        )
    head = (
        "model", "requests a second", "from the cache", "p99 ms", "gateways of one core",
        "engine's CPU ms an inference", "share", "engine replicas of one core",
    )  # fmt: skip
    return _table(head, rows)


def _inference_us(model: str, variant: str) -> float:
    """CPU microseconds of ONNX Runtime for one item, one thread (`make benchmark`)."""
    benchmark = json.loads((ROOT / "models" / model / "versions" / "1" / "benchmark.json").read_text())
    return float(benchmark["batches"]["1"][variant]["seconds"]["median"] * 1e6)


def _one(measured: Measured, path: str) -> Mapping[str, float]:
    """What one process does on a path."""
    row: Mapping[str, float] = measured["processes"][path][0]
    return row


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
