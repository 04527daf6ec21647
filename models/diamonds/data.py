"""Diamonds as payloads, labelled with the natural logarithm of their price in US dollars.

`python -m models.diamonds.data` writes examples.zip.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models import samples
from models.diamonds.transform import FIELDS
from models.samples import Samples, Splits
from models.training import diamonds
from models.training.diamonds import Diamond

HERE = Path(__file__).parent
EXAMPLES = 500


def splits() -> Splits:
    """43,000 rows to train on, 5,000 to choose by, 5,000 to measure, or thereabouts.

    Raises:
        DataError: the data set cannot be had, or is not the pinned one.
    """
    return Splits(*(_samples(rows) for rows in diamonds.load()))


def _samples(rows: Sequence[Diamond]) -> Samples:
    payloads = [json.dumps({name: getattr(row, name) for name in FIELDS}).encode() for row in rows]
    return Samples(payloads, np.log(np.array([row.price for row in rows])).astype(np.float32))


def main() -> None:
    """Write the samples that the model's folder keeps."""
    test = splits().test
    rows = np.sort(np.random.default_rng(1).choice(len(test), EXAMPLES, replace=False))
    drawn = Samples([test.payloads[row] for row in rows], test.labels[rows])
    samples.write(HERE / "examples.zip", drawn, "json")


if __name__ == "__main__":
    main()
