"""From a photo to the network's input, and from its output to an answer; evaluation uses it too.

The steps are those by which the network was evaluated (`_decode_and_center_crop` and `normalize` of
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet): a square of 224 / 256 of the
photo's shorter side, from its middle, scaled to 224 x 224 by bicubic interpolation.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

LABELS = tuple(Path(__file__).with_name("labels.txt").read_text(encoding="utf-8").splitlines())
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 2**24  # 16.8 million; decoded in colour that is 64 MiB
MAX_JPEG_PIXELS = (
    2**26
)  # 67 million: a JPEG is decoded at a half, quarter or eighth of its size where that will do
SIDE, MARGIN = 224, 32
MEAN, SCALE = 127, 128
WORK_SIDE = 4 * SIDE  # a JPEG is decoded at no less, so that what is seen does not depend on this shortcut
SHOWN = 5


def to_inputs(payload: bytes) -> dict[str, NDArray[np.float32]]:
    """Turn an image file into one item for the network.

    Args:
        payload: a file of one of FORMATS; of an animation, the first frame; transparent parts count as white.

    Returns:
        `{"image": float32 [224, 224, 3]}`, red, green, blue, each (0..255 - 127) / 128.

    Raises:
        ValueError: not such a file, broken, or more than MAX_PIXELS (a JPEG: MAX_JPEG_PIXELS).
    """
    try:
        image = Image.open(io.BytesIO(payload), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image: expected at most {MAX_JPEG_PIXELS} pixels, got more") from error
    except Exception as error:  # Pillow lets through whatever its decoders meet in a broken header
        raise ValueError(f"image: expected a {', '.join(FORMATS)} file, got something else") from error
    size, limit = image.size, MAX_JPEG_PIXELS if image.format == "JPEG" else MAX_PIXELS
    if image.format == "JPEG":
        image.draft("RGB", (WORK_SIDE, WORK_SIDE))
    if size[0] * size[1] > limit or image.width * image.height > MAX_PIXELS:
        raise ValueError(f"image: expected at most {limit} pixels, got {size[0]} x {size[1]}")
    try:
        pixels = np.asarray(_square(image), np.float32)
    except Exception as error:  # as above, in the pixel data
        reason = " ".join(str(error).split())
        raise ValueError(f"image: the {image.format} file is broken: {reason}") from error
    return {"image": (pixels - np.float32(MEAN)) / np.float32(SCALE)}


def to_answer(outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """`probabilities` [1000] of one item as `{label: probability}`: the five most probable, in order."""
    probabilities = outputs["probabilities"].astype(float)
    best = np.argsort(-probabilities, kind="stable")[:SHOWN]
    return {LABELS[i]: float(probabilities[i]) for i in best}


def _square(image: Image.Image) -> Image.Image:
    """The middle of the picture, upright, RGB, SIDE x SIDE."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    image = image if image.mode == mode else image.convert(mode)  # `convert` always copies
    side = min(image.size) * SIDE / (SIDE + MARGIN)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
    if mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image
