"""How good answers are, from probabilities and right labels, or from numbers and right numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

Probabilities = NDArray[np.float32]
Labels = NDArray[np.int64]
BINS = 15
"""Of the calibration error, as in the paper."""
DIGITS = 6
POINTS = 60
"""Of a kept ROC curve; and five times as many of a regression's scatter."""
BINARY = 2


def classification(probabilities: Probabilities, labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """All that is kept of a classifier.

    Args:
        probabilities: float32 [N, C].
        labels: int64 [N], each from 0 to C - 1.
        names: of the C classes.

    Returns:
        `metrics`: accuracy, precision, recall and F1 (macro means), ROC-AUC (of two classes the second's, of
        more the macro mean of one against the rest) and calibration error; `per_class`; `confusion`: rows are
        right, columns are answered; `roc`: the macro-averaged curve.
    """
    classes = list(range(probabilities.shape[1]))
    answered = probabilities.argmax(1)
    parts = sk.precision_recall_fscore_support(labels, answered, labels=classes, zero_division=0)
    precision, recall, f1, support = (np.asarray(part) for part in parts)
    areas = np.array([sk.roc_auc_score(labels == c, probabilities[:, c]) for c in classes])
    found = {
        "accuracy": np.mean(answered == labels),
        "precision": precision.mean(),
        "recall": recall.mean(),
        "f1": f1.mean(),
        "roc_auc": areas[1] if len(classes) == BINARY else areas.mean(),
        "calibration_error": calibration_error(probabilities, labels),
    }
    columns = {"precision": precision, "recall": recall, "f1": f1, "roc_auc": areas}
    return {
        "metrics": rounded(found),
        "per_class": [
            {
                "label": names[c],
                **rounded({key: column[c] for key, column in columns.items()}),
                "count": int(support[c]),
            }
            for c in classes
        ],
        "confusion": sk.confusion_matrix(labels, answered, labels=classes).tolist(),
        "roc": roc(probabilities, labels),
    }


def roc(probabilities: Probabilities, labels: Labels) -> dict[str, list[float]]:
    """The ROC curve: of two classes the second's, of more the mean of each class against the rest.

    Its false-positive rates lie evenly on a logarithmic scale: a good classifier's curve hugs the corner.
    """
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, POINTS)])
    classes = [1] if probabilities.shape[1] == BINARY else range(probabilities.shape[1])
    curves = []
    for c in classes:
        false, true, _ = sk.roc_curve(labels == c, probabilities[:, c])
        curves.append(np.interp(grid, false, true))
    mean = np.mean(curves, axis=0)
    return {"false_positive_rate": _list(grid), "true_positive_rate": _list(mean)}


def calibration_error(probabilities: Probabilities, labels: Labels) -> float:
    """Expected calibration error: C. Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599.

    The mean distance between how sure the network is and how often it is right, over BINS bins of sureness.
    """
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == b].sum() - sure[bins == b].sum(dtype=np.float64)) for b in range(BINS)]
    return float(sum(gaps) / len(labels))


def agreement(probabilities: Probabilities, reference: Probabilities) -> float:
    """The share of rows whose likeliest class is the reference's too. Both [N, C]."""
    return round(float(np.mean(probabilities.argmax(1) == reference.argmax(1))), DIGITS)


def regression(answered: NDArray[np.float32], right: NDArray[np.float32]) -> dict[str, Any]:
    """All that is kept of a regression, of [N] answers and right numbers.

    Returns:
        `metrics`: R2, mean absolute error, root of the mean square error; `scatter`: up to 300 rows, evenly
        from all, right and answered.
    """
    rows = np.unique(np.linspace(0, len(right) - 1, 5 * POINTS).astype(int))
    found = {
        "r2": sk.r2_score(right, answered),
        "mae": sk.mean_absolute_error(right, answered),
        "rmse": sk.root_mean_squared_error(right, answered),
    }
    scatter = {"right": _list(right[rows]), "answered": _list(answered[rows])}
    return {"metrics": rounded(found), "scatter": scatter}


def rounded(values: dict[str, Any]) -> dict[str, float]:
    """As Python's floats, short enough to be read in a file."""
    return {name: round(float(value), DIGITS) for name, value in values.items()}


def _list(values: NDArray[Any]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]
