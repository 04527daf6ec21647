"""What the measurements of a model say: one row a variant, and the sentence on top of its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models import gate
from models.evaluation import wording
from models.evaluation.subject import Subject

NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Row:
    """One variant.

    Attributes:
        name: the variant.
        score: its metric, of a floor: accuracy, R2 or agreement.
        margin: half the 95 % interval of a share, since the test split is a sample; 0 for R2.
        loss: what it loses against the first variant.
        misses: why it is not published; empty where it meets floor and loss.
        size_bytes: of its ONNX file.
        size_ratio: of the first variant's size to its own.
        parameters: numbers that it learnt.
        speed: `{batch: {seconds, against_torch, against_onnxruntime}}`, each median, low, high.
    """

    name: str
    score: float
    margin: float
    loss: float
    misses: str
    size_bytes: int
    size_ratio: float
    parameters: int
    speed: Mapping[str, Mapping[str, Mapping[str, float]]]


def metric_of(contract: Mapping[str, Any]) -> str:
    """The metric that the contract's floors name."""
    return next(iter(gate.metrics_of(contract["floors"])))


def floor_of(contract: Mapping[str, Any], first: float) -> float:
    """The least that a variant must reach when the first one reaches `first`."""
    metric, floors = metric_of(contract), contract["floors"]
    if metric == "agreement":
        return float(floors[metric])
    return float(max(floors[metric], first - floors.get(gate.LARGEST_LOSS, gate.DEFAULT_LARGEST_LOSS)))


def rows(subject: Subject, evaluation: Mapping[str, Any], benchmark: Mapping[str, Any]) -> list[Row]:
    """The variants in the contract's order.

    Args:
        subject: the model.
        evaluation: its evaluation.json.
        benchmark: its benchmark.json; empty where there is none yet.
    """
    metric = metric_of(subject.contract)
    first, *_ = (evaluation["variants"][name] for name in subject.variants)
    count = evaluation["test"]["count"]
    found = []
    for name in subject.variants:
        entry = evaluation["variants"][name]
        score = entry["metrics"][metric]
        batches = benchmark.get("batches", {}).items()
        found.append(
            Row(
                name=name,
                score=score,
                margin=NORMAL_95 * (score * (1 - score) / count) ** 0.5 if metric in wording.PERCENT else 0.0,
                loss=first["metrics"][metric] - score,
                misses=_misses(subject, name),
                size_bytes=entry["size_bytes"],
                size_ratio=first["size_bytes"] / entry["size_bytes"],
                parameters=entry["parameters"],
                speed={size: candidates[name] for size, candidates in batches if name in candidates},
            )
        )
    return found


def _misses(subject: Subject, variant: str) -> str:
    """What the gate has against it."""
    checkpoints = {name: each.sha256 for name, each in subject.variants.items()}
    try:
        gate.judge_record(
            subject.contract["floors"], subject.records / "evaluation.json", variant, checkpoints
        )
    except gate.Refused as refused:
        return str(refused)
    return ""


def headline(found: Sequence[Row]) -> Row:
    """The variant that the report leads with: the smallest of those that are good enough, else the first."""
    return min((row for row in found if not row.misses), key=lambda row: row.size_bytes, default=found[0])
