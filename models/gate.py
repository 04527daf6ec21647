"""Whether a variant may be published: its floor, and what it lost against fp32. Decides, and runs nothing.

Two things must both be so:

- **The record**: `versions/<version>/evaluation.json`, measured by `make eval` on the whole test split,
  meets the floors and the largest loss of model.yaml exactly, for the very checkpoint that the contract
  names.
- **The examples**: the artifact itself, asked for the fixed examples of examples.zip, does not contradict
  that. They are a sample, so a variant that just meets its floor would often fall below it there. It is
  refused where metric + 2 s < floor, or loss - 2 s' > largest loss. s is the standard error of the metric:
  the metric is a mean of terms, one an example, and s = std(terms) / sqrt(N). s' is that of the loss, from
  the differences of both variants' terms for the same examples (a paired comparison: much smaller than the
  two errors apart). A variant that truly meets them is refused about once in forty times (2.3 % lie beyond
  two standard errors), were the examples drawn anew; they are fixed, so a verdict does not change by
  chance.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.processes import BuildError

METRICS = ("accuracy", "r2", "agreement")
LARGEST_LOSS, DEFAULT_LARGEST_LOSS = "largest_loss", 0.01
TOLERATED_ERRORS = 2.0
"""Standard errors that a sample may be off."""
CHANCE_ERRORS, CHANCE = 4.0, 0.01
"""By how much record and examples may differ: standard errors, and on top what few wrong answers hide."""
MEND = "restore its weights, calibration.zip and examples.zip, or make better weights"
"""Of a variant whose record was good enough: something was changed since."""
LEAST_EXAMPLES = 100
"""Of fewer the standard error is so wide that anything would pass."""
ROUNDING = 1e-9
"""Of differences of decimal numbers: 0.99 - 0.98 is more than 0.01 in floating point."""


class Refused(BuildError):
    """Something was built and is not good enough to be published; the text is one line."""


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """A metric over N examples.

    Attributes:
        value: the metric.
        terms: float64 [N], what each example adds: their spread tells how far `value` may be off.
    """

    value: float
    terms: NDArray[np.float64]


def measure(
    answers: NDArray[np.float32],
    labels: NDArray[np.int64] | NDArray[np.float32],
    reference: NDArray[np.float32],
    metric: str,
) -> Measure:
    """One of METRICS.

    Args:
        answers: the variant's, float32 [N, C] probabilities, or [N, 1] of a regression.
        labels: the right classes [N], or the right numbers [N].
        reference: fp32's answers, of the same shape.
        metric: which. The terms of `r2` are those of the delta method (A. van der Vaart, Asymptotic
            Statistics, chapter 3): R2 is 1 - sum(e^2) / sum(d^2), with errors e and deviations d from the
            mean; an example's term is 1 - (e^2 - (1 - R2) (d^2 - D)) / D, where D is the mean of d^2.
    """
    if metric == "r2":
        errors = (answers.reshape(len(answers)).astype(np.float64) - labels) ** 2
        deviations = (labels.astype(np.float64) - labels.mean(dtype=np.float64)) ** 2
        spread = deviations.mean()
        lost = errors.mean() / spread
        return Measure(float(1 - lost), 1 - (errors - lost * (deviations - spread)) / spread)
    right = labels if metric == "accuracy" else reference.argmax(1)
    hits = (answers.argmax(1) == right).astype(np.float64)
    return Measure(float(hits.mean()), hits)


def judge_examples(
    floors: Mapping[str, float],
    answers: NDArray[np.float32],
    reference: NDArray[np.float32],
    labels: NDArray[np.int64] | NDArray[np.float32],
) -> dict[str, dict[str, float]]:
    """What a variant is worth on the examples.

    Args:
        floors: the contract's.
        answers: the variant's, float32 [N, ...].
        reference: fp32's, of the same shape.
        labels: the examples'.

    Returns:
        `{metric: {value, standard_error, loss, loss_standard_error}}` for each metric that has a floor.

    Raises:
        Refused: it is worth less than the contract asks for.
    """
    if len(labels) < LEAST_EXAMPLES:
        raise Refused(f"examples.zip has {len(labels)} examples, at least {LEAST_EXAMPLES} are needed")
    if not np.isfinite(answers).all():
        raise Refused("it answers what is no number")
    found = {}
    for metric, floor in metrics_of(floors).items():
        own = measure(answers, labels, reference, metric)
        base = measure(reference, labels, reference, metric)
        error, loss_error = _standard_error(own.terms), _standard_error(base.terms - own.terms)
        loss = base.value - own.value
        found[metric] = {
            "value": own.value, "standard_error": error, "loss": loss, "loss_standard_error": loss_error,
        }  # fmt: skip
        if own.value + TOLERATED_ERRORS * error < floor - ROUNDING:
            raise Refused(
                f"{metric} {own.value:.4f} on {len(labels)} examples, its floor is {floor:g}: {MEND}"
            )
        most = _largest_loss(floors, metric)
        if loss - TOLERATED_ERRORS * loss_error > most + ROUNDING:
            raise Refused(
                f"{loss:.4f} {metric} less than fp32 on {len(labels)} examples, "
                f"at most {most:g} is allowed: {MEND}"
            )
    return found


def judge_record(
    floors: Mapping[str, float], record: Path, variant: str, checkpoints: Mapping[str, str]
) -> dict[str, float]:
    """What the whole test split says about a variant.

    Args:
        floors: the contract's.
        record: evaluation.json.
        variant: which one.
        checkpoints: the sha256 of each variant's checkpoint, fp32's too, as the contract has them.

    Returns:
        `{metric: value}` for each metric that has a floor.

    Raises:
        Refused: there is no such record, it is of other weights, or it says that the variant is worth too
        little.
    """
    model = record.parents[2].name
    mend = f"run `make eval MODEL={model}`"
    own, base = (_recorded(record, name, checkpoints[name], mend) for name in (variant, "fp32"))
    found = {}
    for metric, floor in metrics_of(floors).items():
        if metric not in own or metric not in base:
            raise Refused(f"{record.name} has no {metric} of {variant} and fp32: {mend}")
        value, loss = own[metric], base[metric] - own[metric]
        found[metric] = value
        if not value >= floor - ROUNDING:
            raise Refused(f"{metric} {value:.4f} on the whole test split, its floor is {floor:g}")
        if loss > (most := _largest_loss(floors, metric)) + ROUNDING:
            raise Refused(
                f"{loss:.4f} {metric} less than fp32 on the whole test split, at most {most:g} is allowed"
            )
    return found


def check_record(record: Mapping[str, float], examples: Mapping[str, Mapping[str, float]]) -> None:
    """See that a variant's record and its examples may be of the same artifact.

    Args:
        record: what `judge_record` found.
        examples: what `judge_examples` found.

    Raises:
        Refused: they differ by more than chance.
    """
    for metric in sorted(record.keys() & examples):
        recorded, found = record[metric], examples[metric]["value"]
        if abs(recorded - found) > CHANCE_ERRORS * examples[metric]["standard_error"] + CHANCE:
            raise Refused(
                f"{metric} {found:.4f} on the examples, but {recorded:.4f} in evaluation.json: restore what "
                "was changed since, or run `make eval`"
            )


def metrics_of(floors: Mapping[str, float]) -> dict[str, float]:
    """The floors that are of a metric.

    Raises:
        BuildError: there is none.
    """
    found = {metric: floors[metric] for metric in METRICS if metric in floors}
    if not found:
        known = ", ".join(METRICS)
        raise BuildError(
            f"model.yaml has no floor: `floors` must have one of {known}, for nothing is built unmeasured; "
            "a file that is built already is served without (docs/bring-your-own-model.md)"
        )
    return found


def _largest_loss(floors: Mapping[str, float], metric: str) -> float:
    """Agreement with fp32 is itself what was lost against it: its floor is its bound."""
    return math.inf if metric == "agreement" else floors.get(LARGEST_LOSS, DEFAULT_LARGEST_LOSS)


def _standard_error(terms: NDArray[np.float64]) -> float:
    return float(terms.std() / math.sqrt(len(terms)))


def _recorded(record: Path, variant: str, sha256: str, mend: str) -> dict[str, float]:
    try:
        entry: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["variants"][variant]
        measured = entry["sha256"]
        metrics = {name: float(value) for name, value in entry["metrics"].items()}
    except OSError as error:
        raise Refused(f"its evaluation is missing ({record.name}): {mend}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{record.name} has no evaluation of {variant}: {mend}") from error
    if measured != sha256:
        raise Refused(f"{record.name} is of other weights of {variant} than model.yaml names: {mend}")
    return metrics
