"""The held-out digits of `cnn_mnist`, as load tests send them."""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODEL = "cnn_mnist"
CLASSES = 10
HELD_OUT = Path(__file__).parents[1] / "models" / MODEL / "examples.zip"
FAINT = 32
"""Gray values below this in a corner do not change which digit it is."""

Picture = NDArray[np.uint8]
"""One digit, [28, 28], white on black."""


class Digits:
    """Draws digits by lot.

    Args:
        distinct: make each one a picture that was never sent, by a faint trace in its first row, so that no
            cache knows the answer; else the 500 digits come again and again.
        seed: of the lot.
    """

    def __init__(self, *, distinct: bool, seed: int | None = None) -> None:
        with zipfile.ZipFile(HELD_OUT) as held:
            self._images = [np.asarray(Image.open(held.open(name))) for name in held.namelist()]
        self._distinct = distinct
        self._rng = np.random.default_rng(seed)

    def draw(self) -> Picture:
        """The next digit."""
        image: Picture = self._images[self._rng.integers(len(self._images))]
        if self._distinct:
            image = image.copy()
            image[0] = self._rng.integers(FAINT, size=image.shape[1], dtype=np.uint8)
        return image


def tensor(image: Picture) -> NDArray[np.float32]:
    """What the model takes: FP32 [1, 28, 28, 1], 0 to 1."""
    return (image.astype(np.float32) / 255.0)[None, :, :, None]


def png(image: Picture) -> bytes:
    """The picture as a file, as a person would send it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


class WrongAnswer(AssertionError):
    """The gateway said OK, and the answer is none."""


def check(probabilities: NDArray[np.float64]) -> None:
    """See that an answer is one: ten probabilities that add up to 1.

    Raises:
        WrongAnswer: it is not.
    """
    if probabilities.shape != (CLASSES,) or not np.isclose(probabilities.sum(), 1.0, atol=1e-3):
        raise WrongAnswer(f"not {CLASSES} probabilities: {probabilities!r}")
