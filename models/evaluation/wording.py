"""How a report words its numbers."""

NAMES = {"accuracy": "Accuracy", "r2": "R²", "agreement": "Agreement with fp32"}
"""Metrics that have floors."""
METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "calibration_error": "calibration error",
    "agreement": "agreement with fp32",
    "r2": "R²",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
}
PERCENT = ("accuracy", "agreement")
"""Metrics that are shares."""
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def shown(metric: str, value: float) -> str:
    """A metric's value: shares in percent."""
    return f"{100 * value:.2f} %" if metric in PERCENT else f"{value:.4f}"


def lost(metric: str, loss: float) -> str:
    """What is lost, of shares in points: a loss has a minus, a gain a plus."""
    text = f"{-100 * loss:+.2f}" if metric in PERCENT else f"{-loss:+.4f}"
    return "0" if not float(text) else text.replace("-", MINUS)


def size(count: float) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"  # noqa: PLR2004 - SI


def seconds(value: float) -> str:
    """A latency in ms, with three significant digits at most."""
    milliseconds = 1e3 * value
    digits = next((digits for digits, least in ((0, 100), (1, 10), (2, 1)) if milliseconds >= least), 3)
    return f"{milliseconds:.{digits}f} ms"


def times(ratio: float) -> str:
    """A ratio with the sign of multiplication."""
    return f"{ratio:.{0 if ratio >= 10 else 1}f}{TIMES}"  # noqa: PLR2004 - two digits at least
