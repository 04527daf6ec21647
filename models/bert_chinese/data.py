"""The reviews as labelled payloads: what a client would send."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models import samples
from models.samples import Samples, Splits
from models.training import reviews

FOLDER = Path(__file__).parent
EXAMPLES, CALIBRATION, SEED = 500, 200, 1


def splits() -> Splits:
    """Train, validation and test.

    Raises:
        DataError: the package with the texts cannot be had.
    """
    data = reviews.load()
    return Splits(*(_samples(split) for split in (data.train, data.validation, data.test)))


def _samples(split: reviews.Split, rows: Sequence[int] | None = None) -> Samples:
    chosen = range(len(split.texts)) if rows is None else rows
    return Samples([split.texts[row].encode() for row in chosen], split.labels[list(chosen)])


def main() -> None:
    """Write examples.zip (500 test reviews drawn by lot) and calibration.zip (200 training reviews)."""
    data, rng = reviews.load(), np.random.default_rng(SEED)
    for name, split, count in (
        ("examples.zip", data.test, EXAMPLES),
        ("calibration.zip", data.train, CALIBRATION),
    ):
        rows = rng.choice(len(split.texts), count, replace=False).tolist()
        samples.write(FOLDER / name, _samples(split, rows), "txt")


if __name__ == "__main__":
    main()
