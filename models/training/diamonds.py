"""The prices of 53,940 diamonds, from the PyPI package `plotnine` (MIT), which has them from R's `ggplot2`.

https://ggplot2.tidyverse.org/reference/diamonds.html
"""

import csv
import hashlib
import io
from typing import NamedTuple

from models.training.packages import Package, wheel_member

PACKAGE = Package(
    "plotnine",
    "0.15.9",
    "plotnine-0.15.9-py3-none-any.whl",
    "36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd",
)
COLUMNS = ("carat", "cut", "color", "clarity", "price")
PARTS, TEST, VALIDATION = 10, 0, 1


class Diamond(NamedTuple):
    """One row: weight in carats, three grades, and the price in US dollars."""

    carat: float
    cut: str
    color: str
    clarity: str
    price: int


class Diamonds(NamedTuple):
    """About eight, one and one of every ten; rows that are equal to the last digit are in the same one."""

    train: list[Diamond]
    validation: list[Diamond]
    test: list[Diamond]


def load() -> Diamonds:
    """All rows, each put by a hash of itself.

    Raises:
        DataError: the package cannot be had, or is not the pinned one.
    """
    found = Diamonds([], [], [])
    content = wheel_member(PACKAGE, "plotnine/data/diamonds.csv").decode()
    for row in csv.DictReader(io.StringIO(content)):
        text = " ".join(row[column] for column in COLUMNS)
        part = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % PARTS
        split = {TEST: found.test, VALIDATION: found.validation}.get(part, found.train)
        split.append(
            Diamond(float(row["carat"]), row["cut"], row["color"], row["clarity"], int(row["price"]))
        )
    return found
