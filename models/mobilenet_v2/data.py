"""Fashion-MNIST as payloads: 55,000 images to train on, 5,000 to choose by, 10,000 to measure.

`python -m models.mobilenet_v2.data` writes examples.zip, calibration.zip and example.png anew.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import samples
from models.samples import Samples, Splits
from models.training import fashion_mnist

MODEL = Path(__file__).parent
SEED, VALIDATION = 1, 5000
EXAMPLES, CALIBRATION = 500, 200


def splits() -> Splits:
    """All images as PNG files, each with the index of its class; validation is drawn by a fixed lot.

    Raises:
        DataError: the data set cannot be had, or is not the pinned one.
    """
    train, test = fashion_mnist.load()
    order = np.random.default_rng(SEED).permutation(len(train.labels))
    return Splits(_pick(train, order[VALIDATION:]), _pick(train, order[:VALIDATION]), _pick(test))


def write_samples() -> None:
    """Write 500 test images for parity, 200 training images to calibrate int8 with, and one test image."""
    found = splits()
    rows = np.sort(np.random.default_rng(SEED).choice(len(found.test), EXAMPLES, replace=False))
    examples = Samples([found.test.payloads[row] for row in rows], found.test.labels[rows])
    samples.write(MODEL / "examples.zip", examples, "png")
    samples.write(MODEL / "calibration.zip", found.train[:CALIBRATION], "png")
    (MODEL / "example.png").write_bytes(found.test.payloads[0])


def _pick(split: fashion_mnist.Split, rows: NDArray[np.int64] | slice = slice(None)) -> Samples:
    return Samples([_png(image) for image in split.images[rows]], split.labels[rows].astype(np.int64))


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    write_samples()
