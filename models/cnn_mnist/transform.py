"""From an image file to the network's input, and from its output to an answer.

The network knows digits as MNIST has them (http://yann.lecun.com/exdb/mnist/): white strokes on black, scaled
until the longer side is 20 pixels, then laid into 28 x 28 with the centre of mass in the middle. A grayscale
image of 28 x 28 pixels on dark paper is taken as it is, so that MNIST stays exact. Anything else is brought
into that form: the border tells the paper's colour, and what differs from it is ink; so dark ink on light
paper is inverted.
"""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

LABELS = tuple("0123456789")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 2**24  # 16.8 million; decoded in colour that is 64 MiB
SIDE = 28
DIGIT_SIDE = 20
WORK_SIDE = 20 * SIDE  # a larger picture is shrunk to this first, which bounds the cost
WHITE, MIDDLE = 255, 128
GRAIN_RATIO = 0.25  # ink fainter than this part of the darkest is taken for the paper's grain
BLANK = 16  # gray levels; a picture whose ink is fainter has none


def scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels as the network wants them: uint8 [..., 28, 28] to float32 [..., 28, 28, 1], 0..1."""
    return (pixels.astype(np.float32) / np.float32(255))[..., np.newaxis]


def to_inputs(payload: bytes) -> dict[str, NDArray[np.float32]]:
    """Turn an image file into one item for the network.

    Args:
        payload: a file of one of FORMATS, of any size up to MAX_PIXELS; of an animation, the first frame.

    Returns:
        `{"image": float32 [28, 28, 1]}`, 0..1, white on black.

    Raises:
        ValueError: not such a file, broken, or too large.
    """
    try:
        image = Image.open(io.BytesIO(payload), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image: expected at most {MAX_PIXELS} pixels, got more") from error
    except Exception as error:  # Pillow lets through whatever its decoders meet in a broken header
        raise ValueError(f"image: expected a {', '.join(FORMATS)} file, got something else") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"image: expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
    try:
        pixels = _pixels(image)
    except Exception as error:  # as above, in the pixel data
        reason = " ".join(str(error).split())
        raise ValueError(f"image: the {image.format} file is broken: {reason}") from error
    return {"image": scaled(pixels)}


def to_answer(outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """`probabilities` [10] of one item as `{digit: probability}`, most probable first."""
    probabilities = outputs["probabilities"].tolist()
    order = sorted(range(len(LABELS)), key=lambda digit: -probabilities[digit])
    return {LABELS[digit]: probabilities[digit] for digit in order}


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """The picture in MNIST's form, uint8 [28, 28]."""
    may_be_mnist = image.mode == "L" and image.size == (SIDE, SIDE)
    gray = _gray(image)
    if may_be_mnist and _paper(gray) < MIDDLE:
        return gray.astype(np.uint8)
    return _centred(_ink(gray))


def _gray(image: Image.Image) -> NDArray[np.float32]:
    """Gray levels 0..255, upright, at most WORK_SIDE pixels a side, on opaque paper."""
    image.draft("L", (WORK_SIDE, WORK_SIDE))
    ImageOps.exif_transpose(image, in_place=True)  # else it copies, 64 MiB of a large picture
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "L"
    image = image if image.mode == mode else image.convert(mode)  # `convert` always copies
    image.thumbnail((WORK_SIDE, WORK_SIDE))
    values = np.asarray(image.convert("L"), np.float32)
    if image.mode == "L":
        return values
    opacity = np.asarray(image.getchannel("A"), np.float32) / np.float32(WHITE)
    # what is transparent becomes the paper that the strokes stand out from
    is_light = float((values * opacity).sum()) >= MIDDLE * float(opacity.sum())
    paper = np.float32(0 if is_light else WHITE)
    on_paper: NDArray[np.float32] = values * opacity + paper * (1 - opacity)
    return on_paper


def _paper(gray: NDArray[np.float32]) -> np.float32:
    """The gray level of the paper, which the border tells."""
    return np.float32(np.median(np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])))


def _ink(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each pixel differs from the paper, in the direction of ink: 0 is paper."""
    paper = _paper(gray)
    ink: NDArray[np.float32] = gray - paper if paper < MIDDLE else paper - gray
    return np.maximum(ink, np.float32(0))


def _centred(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The strokes alone, scaled to DIGIT_SIDE, at full contrast, centre of mass in the middle."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    strongest = float(ink.max())
    if strongest < BLANK:
        return canvas
    strokes = ink >= GRAIN_RATIO * strongest
    rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = max(digit.shape)
    height, width = (max(1, round(side * DIGIT_SIDE / longest)) for side in digit.shape)
    small = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BILINEAR))
    small = small * (WHITE / small.max())  # thin strokes fade when they shrink
    mass = small.sum()
    top = SIDE / 2 - (small.sum(1) @ (np.arange(height) + 0.5)) / mass
    left = SIDE / 2 - (small.sum(0) @ (np.arange(width) + 0.5)) / mass
    row = min(max(round(float(top)), 0), SIDE - height)
    column = min(max(round(float(left)), 0), SIDE - width)
    canvas[row : row + height, column : column + width] = small.round()
    return canvas
