"""From a picture of a garment, a shoe or a bag to the network's input, and from its output to an answer.

The network knows articles as Fashion-MNIST has them (H. Xiao et al., arXiv:1708.07747): gray, 28 x 28, light
on black. A grayscale image of 28 x 28 pixels is taken as it is, unless its corners are light. Any other
picture goes the way that the authors took from product photos: trimmed to what differs from the background,
the longer side shrunk to 28 pixels, centred, gray levels turned so that the background is black and what
differs most is white. Both are then scaled up to 224 x 224 and given three equal colours.
"""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 2**24  # 16.8 million; decoded in colour that is 64 MiB
SIDE = 224
ARTICLE_SIDE = 28
WORK_SIDE = 16 * ARTICLE_SIDE  # a larger picture is shrunk to this first, which bounds the cost
WHITE, MIDDLE = 255, 128
GRAIN = 26  # gray levels, a tenth; what differs less from the background is its grain or a shadow
SPECKS_RATIO = 0.01  # a row or column with a smaller part of article than this is background


def to_inputs(payload: bytes) -> dict[str, NDArray[np.float32]]:
    """Turn an image file into one item for the network.

    Args:
        payload: a file of one of FORMATS, of any size up to MAX_PIXELS; of an animation, the first frame.

    Returns:
        `{"image": float32 [224, 224, 3]}`, -1 (black) to 1.

    Raises:
        ValueError: not such a file, broken, or too large.
    """
    return {"image": enlarged(article(payload))}


def to_answer(outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """`probabilities` [10] of one item as `{label: probability}`, most probable first."""
    probabilities = outputs["probabilities"].tolist()
    order = sorted(range(len(LABELS)), key=lambda index: -probabilities[index])
    return {LABELS[index]: probabilities[index] for index in order}


def article(payload: bytes) -> NDArray[np.uint8]:
    """The picture in Fashion-MNIST's form: uint8 [28, 28], light on black. Raises as `to_inputs` does."""
    try:
        image = Image.open(io.BytesIO(payload), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image: expected at most {MAX_PIXELS} pixels, got more") from error
    except Exception as error:  # Pillow lets through whatever its decoders meet in a broken header
        raise ValueError(f"image: expected a {', '.join(FORMATS)} file, got something else") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"image: expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
    try:
        if image.mode == "L" and image.size == (ARTICLE_SIDE, ARTICLE_SIDE):
            pixels = np.asarray(image)
            corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
            if corners.min() < MIDDLE:  # so it is in all of the data set, though articles reach the edges
                return pixels
        return _centred(_contrast(_gray(image)))
    except Exception as error:  # as above, in the pixel data
        reason = " ".join(str(error).split())
        raise ValueError(f"image: the {image.format} file is broken: {reason}") from error


def enlarged(pixels: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.float32]:
    """uint8 [28, 28] to float32 [side, side, 3], -1..1, by bilinear interpolation."""
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    gray = np.asarray(image, np.float32) / np.float32(WHITE / 2) - np.float32(1)
    return np.repeat(gray[..., np.newaxis], 3, axis=2)


def _gray(image: Image.Image) -> NDArray[np.float32]:
    """Gray levels 0..255, upright, at most WORK_SIDE pixels a side; what is transparent is white."""
    image.draft("RGB", (WORK_SIDE, WORK_SIDE))
    ImageOps.exif_transpose(image, in_place=True)  # else it copies, 64 MiB of a large picture
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "L"
    image = image if image.mode == mode else image.convert(mode)  # `convert` always copies
    image.thumbnail((WORK_SIDE, WORK_SIDE))
    values = np.asarray(image.convert("L"), np.float32)
    if mode == "L":
        return values
    opacity = np.asarray(image.getchannel("A"), np.float32) / np.float32(WHITE)
    on_white: NDArray[np.float32] = values * opacity + np.float32(WHITE) * (1 - opacity)
    return on_white


def _contrast(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each pixel differs from the background, whose gray level the border tells; 0 is background."""
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    difference: NDArray[np.float32] = np.abs(gray - np.float32(np.median(border)))
    return difference


def _centred(contrast: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The article alone, its longer side ARTICLE_SIDE, in the middle of black."""
    canvas = np.zeros((ARTICLE_SIDE, ARTICLE_SIDE), np.uint8)
    shown = contrast >= GRAIN
    rows, columns = (np.flatnonzero(shown.mean(axis) > SPECKS_RATIO) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return canvas
    found = contrast[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = max(found.shape)
    height, width = (max(1, round(side * ARTICLE_SIDE / longest)) for side in found.shape)
    small = np.asarray(Image.fromarray(found).resize((width, height), Image.Resampling.BILINEAR))
    # where one side's margin is a pixel wider, the data set has it above and on the left
    top, left = (ARTICLE_SIDE - height + 1) // 2, (ARTICLE_SIDE - width + 1) // 2
    canvas[top : top + height, left : left + width] = (small * (WHITE / small.max())).round()
    return canvas
