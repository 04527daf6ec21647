"""Fit the regression with differential privacy.

    .venvs/models/bin/python -m models.diamonds.train             the model: one fit, the noise drawn afresh
    .venvs/models/bin/python -m models.diamonds.train --curve     R2 against epsilon, over seeds

The functional mechanism (J. Zhang et al., arXiv:1208.0219) by diffprivlib: it adds noise to the coefficients
of the squared error as a polynomial, enough for epsilon-differential privacy of each row, and minimises what
comes out. How much noise that is follows from the bounds of features and price. They must not be read from
the rows: the features' are those of transform.py's scales, and the price's are round numbers around the range
that the data set's public description names ($326 to $18,823). What lies outside is clipped.

The model's own noise has no seed: whoever knew it could subtract the noise again.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from diffprivlib.models import LinearRegression
from numpy.typing import NDArray

from models.diamonds.data import splits
from models.diamonds.network import Network
from models.diamonds.transform import to_inputs
from models.samples import Samples
from models.training import checkpoints
from models.training.packages import DataError

VERSION = Path(__file__).parent / "versions" / "1"
EPSILON = 0.5
EPSILONS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SEEDS = 30
PRICES = (300.0, 20_000.0)
Rows = NDArray[np.float64]


def features(samples: Samples) -> Rows:
    """What the network takes, as float64 [N, 4]."""
    return np.stack([to_inputs(payload)["features"] for payload in samples.payloads]).astype(np.float64)


def fit(inputs: Rows, labels: Rows, epsilon: float, seed: int | None = None) -> Rows:
    """The weights and, last, the intercept: float64 [5].

    Args:
        inputs: features [N, 4], each 0..1.
        labels: logarithms of prices [N].
        epsilon: how much one row may show; infinity: as much as it will, without noise.
        seed: of the noise; none: from the operating system.
    """
    if math.isinf(epsilon):
        extended = np.column_stack([inputs, np.ones(len(inputs))])
        return np.linalg.lstsq(extended, labels)[0].astype(np.float64)
    count = inputs.shape[1]
    model = LinearRegression(
        epsilon=epsilon,
        bounds_X=(np.zeros(count), np.ones(count)),
        bounds_y=tuple(map(math.log, PRICES)),
        random_state=seed,
    ).fit(inputs, labels)
    return np.append(model.coef_, model.intercept_)


def r2(weights: Rows, inputs: Rows, labels: Rows) -> float:
    """The share of the labels' variance that the weights explain."""
    residuals = labels - (inputs @ weights[:-1] + weights[-1])
    return 1 - float(residuals @ residuals) / float(((labels - labels.mean()) ** 2).sum())


def curve(train: Samples, validation: Samples) -> dict[str, object]:
    """R2 on the validation rows: without noise, and of each seed at each epsilon."""
    inputs, held = features(train), features(validation)
    labels, right = (split.labels.astype(np.float64) for split in (train, validation))
    return {
        "measured_on": f"{len(validation)} validation rows",
        "published_epsilon": EPSILON,
        "plain_r2": r2(fit(inputs, labels, math.inf), held, right),
        "points": [
            {
                "epsilon": epsilon,
                "r2": [r2(fit(inputs, labels, epsilon, seed), held, right) for seed in range(SEEDS)],
            }
            for epsilon in EPSILONS
        ],
    }


def main() -> None:
    """Fit once and save, or measure the curve."""
    parser = argparse.ArgumentParser(prog="python -m models.diamonds.train")
    parser.add_argument("--curve", action="store_true", help="write epsilon.json in place of a model")
    parser.add_argument("--out", type=Path, default=VERSION, help="the folder to write to (version 1)")
    arguments = parser.parse_args()
    try:
        train, validation, _ = splits()
    except DataError as error:
        raise SystemExit(str(error)) from error
    if arguments.curve:
        text = json.dumps(curve(train, validation), indent=1)
        (arguments.out / "epsilon.json").write_text(f"{text}\n", encoding="utf-8")
        return
    weights = torch.from_numpy(fit(features(train), train.labels.astype(np.float64), EPSILON))
    network = Network(len(weights) - 1)
    network.load_state_dict({"linear.weight": weights[None, :-1], "linear.bias": weights[-1:]})
    checkpoints.save(network, arguments.out / "fp32.safetensors")


if __name__ == "__main__":
    main()
