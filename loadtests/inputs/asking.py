"""What one user asks: the models in turn, of each an input by lot."""

import itertools
from collections.abc import Sequence

import numpy as np

from loadtests.inputs.catalogue import Catalogue
from loadtests.inputs.lots import Lot
from loadtests.inputs.questions import Question


class Asking:
    """Draws a user's questions.

    Args:
        models: each one's catalogue and lot, in the order in which they are asked; one may come twice.
        user: another number for each user: their lots differ, and they begin with different models.
        seed: of the lots.
    """

    def __init__(self, models: Sequence[tuple[Catalogue, Lot]], user: int, seed: int) -> None:
        first = user % len(models)
        self._models = itertools.cycle([*models[first:], *models[:first]])
        self._rng = np.random.default_rng([seed, user])

    def next(self) -> Question:
        """The next question."""
        catalogue, lot = next(self._models)
        return catalogue.question(lot.draw(self._rng))
