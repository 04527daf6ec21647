"""What the network is calibrated and measured on: crops of fourteen photos whose licences allow it.

ImageNet itself may not be passed on: there are no right answers here, and no accuracy is measured; a variant
is held to its agreement with fp32. No photo of `test` is in another split.

`python -m models.efficientnet_lite0.data` writes examples.zip and calibration.zip.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from models import samples
from models.samples import UNKNOWN, Samples, Splits

HERE = Path(__file__).parent
TRAIN = ("brick", "clock", "coins", "galaxies", "grass", "gravel", "palace", "retina")
TEST = ("astronaut", "cat", "daisy", "espresso", "photographer", "rocket")
CALIBRATION, VALIDATION, TESTED, EXAMPLES = 128, 200, 1000, 200
SIDE = 256
"""Of the shorter side of a crop, in pixels."""
AREA, ASPECT = (0.3, 1.0), (3 / 4, 4 / 3)
"""Of a crop: its share of the photo, and its width by its height."""
QUALITY = 75


def splits() -> Splits:
    """128 crops to calibrate by, 200 more of the same photos to choose by, 1,000 of others to measure.

    Each is a JPEG file, labelled UNKNOWN.
    """
    return Splits(_crops(TRAIN, CALIBRATION, 1), _crops(TRAIN, VALIDATION, 2), _crops(TEST, TESTED, 3))


def _crops(photos: Sequence[str], count: int, seed: int) -> Samples:
    """Crops of the photos in turn: drawn by lot, half of them mirrored."""
    rng = np.random.default_rng(seed)
    opened = []
    for name in photos:
        with Image.open(HERE / "photos" / f"{name}.jpg") as photo:
            opened.append(photo.convert("RGB"))
    payloads = [_crop(opened[i % len(opened)], rng) for i in range(count)]
    return Samples(payloads, np.full(count, UNKNOWN, np.int64))


def _crop(photo: Image.Image, rng: np.random.Generator) -> bytes:
    area = photo.width * photo.height * rng.uniform(*AREA)
    aspect = np.exp(rng.uniform(*np.log(ASPECT)))
    width, height = min(photo.width, (area * aspect) ** 0.5), min(photo.height, (area / aspect) ** 0.5)
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    zoom = SIDE / min(width, height)
    size = round(width * zoom), round(height * zoom)
    part = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    if rng.random() < 0.5:  # noqa: PLR2004 - half
        part = ImageOps.mirror(part)
    out = io.BytesIO()
    part.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def main() -> None:
    """Write the samples that the model's folder keeps."""
    found = splits()
    samples.write(HERE / "examples.zip", found.test[:EXAMPLES], "jpg")
    samples.write(HERE / "calibration.zip", found.train, "jpg")


if __name__ == "__main__":
    main()
