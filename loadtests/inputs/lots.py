"""Which input comes next: by lot, some more often than others, or none twice."""

import itertools
from typing import Protocol

import numpy as np


class Lot(Protocol):
    """Draws the index of an input, from 0."""

    def draw(self, rng: np.random.Generator) -> int:
        """The next one."""
        ...


class Zipf:
    """Rank k is drawn with a probability in proportion to 1 / k^exponent, as web pages are asked for.

    L. Breslau et al., "Web Caching and Zipf-like Distributions" (INFOCOM 1999), measured exponents of 0.64 to
    0.83 in the traces of six web caches.

    Args:
        size: how many inputs there are, at least 1.
        exponent: 0: all alike; the larger, the more often the first ones, and the more hits a cache has.

    Raises:
        ValueError: no input, or an exponent below 0.
    """

    def __init__(self, size: int, exponent: float) -> None:
        if size < 1 or exponent < 0:
            raise ValueError(f"expected at least one input and an exponent from 0, got {size} and {exponent}")
        self._sums = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -exponent)

    def draw(self, rng: np.random.Generator) -> int:
        """The index of an input, 0 the most frequent."""
        return int(np.searchsorted(self._sums, rng.random() * self._sums[-1], side="right"))

    def hit_ratio(self, requests: int) -> float:
        """The share of so many requests that a cache answers which was empty and forgets nothing."""
        shares = np.diff(self._sums, prepend=0.0) / self._sums[-1]
        distinct = (1 - (1 - shares) ** requests).sum()
        return float(1 - distinct / requests)


class Distinct:
    """No index twice, so that no cache knows the answer; all users share it.

    Args:
        first: the first index.
    """

    def __init__(self, first: int) -> None:
        self._indices = itertools.count(first)

    def draw(self, rng: np.random.Generator) -> int:
        """The next index."""
        del rng
        return next(self._indices)
