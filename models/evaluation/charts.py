"""Which figures a model's report has, and what is in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation import figures, verdicts, wording
from models.evaluation.figures import Curve
from models.evaluation.subject import Subject

MOST_CELLS = 20
"""Classes of a confusion matrix that can be read."""


def charts(
    subject: Subject,
    rows: Sequence[verdicts.Row],
    evaluation: Mapping[str, Any],
    histories: Mapping[str, Mapping[str, Any]],
    epsilon: Mapping[str, Any],
) -> dict[str, dict[str, str]]:
    """`{section: {title: SVG}}`; trade_off, quality and training, each empty where nothing was recorded."""
    lead = verdicts.headline(rows)
    quality = _privacy(epsilon) | _regression(
        evaluation["variants"][lead.name], subject.contract["outputs"][0]["name"]
    )
    return {
        "trade_off": _trade_off(subject.contract, rows),
        "quality": quality | _classification(evaluation["variants"], rows[0].name, lead.name),
        "training": _training(histories),
    }


def _trade_off(contract: Mapping[str, Any], rows: Sequence[verdicts.Row]) -> dict[str, str]:
    metric = verdicts.metric_of(contract)
    if len(rows) == 1:
        return {}
    factor = 100 if metric in wording.PERCENT else 1
    label = f"{wording.NAMES[metric]}{', %' if factor > 1 else ''}"
    floor = factor * verdicts.floor_of(contract, rows[0].score)

    def drawn(along: Mapping[str, float]) -> list[Curve]:
        return [
            Curve(
                row.name,
                [along[row.name]],
                [factor * row.score],
                [factor * (row.score - row.margin)],
                [factor * (row.score + row.margin)],
            )
            for row in rows
            if row.name in along
        ]

    found = {}
    for batch, title in (("1", "one row"), ("32", "32 rows")):
        times = {row.name: 1e3 * row.speed[batch]["seconds"]["median"] for row in rows if batch in row.speed}
        if times:
            found[f"Quality against latency, {title}"] = figures.points(
                drawn(times), x="ms", y=label, floor=floor
            )
    sizes = {row.name: row.size_bytes / 1e6 for row in rows}
    found["Quality against size"] = figures.points(drawn(sizes), x="MB", y=label, floor=floor)
    return found


def _classification(variants: Mapping[str, Any], first: str, lead: str) -> dict[str, str]:
    found = {}
    for name in dict.fromkeys((first, lead)):
        matrix = variants[name].get("confusion", [])
        if matrix and len(matrix) <= MOST_CELLS:
            labels = [entry["label"] for entry in variants[name]["per_class"]]
            found[f"Confusion matrix of {name}"] = figures.confusion(matrix, labels)
    curves = [
        Curve(name, entry["roc"]["false_positive_rate"][1:], entry["roc"]["true_positive_rate"][1:])
        for name, entry in variants.items()
        if "roc" in entry
    ]
    if curves:
        found["ROC curve"] = figures.lines(
            curves, x="false positive rate (logarithmic)", y="true positive rate", log_x=True, marked=False
        )
    return found


def _regression(entry: Mapping[str, Any], name: str) -> dict[str, str]:
    if "scatter" not in entry:
        return {}
    right, answered = entry["scatter"]["right"], entry["scatter"]["answered"]
    residuals = [a - r for a, r in zip(answered, right, strict=True)]
    return {
        "Predicted against true": figures.scatter(right, answered, x=f"true {name}", y=f"predicted {name}"),
        "Residuals against predicted": figures.residuals(answered, residuals),
        "How large residuals are": figures.histogram(residuals, x="predicted less true", y="rows"),
    }


def _privacy(epsilon: Mapping[str, Any]) -> dict[str, str]:
    """R2 against epsilon: median and quartiles of the seeds; what is below 0 is drawn as 0."""
    if not epsilon:
        return {}
    along = [point["epsilon"] for point in epsilon["points"]]
    quartiles = [
        np.maximum(np.percentile(point["r2"], [25, 50, 75]), 0).tolist() for point in epsilon["points"]
    ]
    low, median, high = (list(values) for values in zip(*quartiles, strict=True))
    private = Curve("private", along, median, low, high)
    plain = Curve("without noise", [along[0], along[-1]], 2 * [epsilon["plain_r2"]])
    svg = figures.lines([private, plain], x="epsilon (smaller is more private)", y="R²", log_x=True)
    return {f"R² against privacy, median and quartiles of {len(epsilon['points'][0]['r2'])} seeds": svg}


def _training(histories: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    def drawn(key: str) -> list[Curve]:
        found = []
        for name, history in histories.items():
            values = history.get(key, [])
            epochs = len(history.get("losses", []))
            step = epochs / len(values) if key == "rates" and values else 1
            if values:
                found.append(Curve(name, [step * (i + 1) for i in range(len(values))], values))
        return found

    named = {
        "Loss": ("losses", "training loss"),
        "Validation": ("scores", "validation score"),
        "Learning rate": ("rates", "learning rate"),
    }
    curves = {title: (drawn(key), label) for title, (key, label) in named.items()}
    return {
        title: figures.lines(drawn_curves, x="epoch", y=label, marked=title != "Learning rate")
        for title, (drawn_curves, label) in curves.items()
        if drawn_curves
    }
