"""An example made into another input of the same meaning: one for each mark, an integer of 32 bits.

Cheap, and the same mark always gives the same bytes. What a variation changes in the model's answer is small,
and `catalogue.py` says for each model how small.
"""

import io
import json

import numpy as np
from PIL import Image

MARK_BITS = 32
GOLDEN = 2654435769
"""2^32 divided by the golden ratio: its multiples, modulo 2^32, spread evenly (D. Knuth, TAOCP 3, 6.4)."""
CARATS_RATIO = 0.01
"""How much a diamond's weight is changed at most."""
MIDDLE_CARATS = 1.0


def picture(payload: bytes, mark: int) -> bytes:
    """A picture with the mark in its middle: the second lowest bit of 32 values, 2 gray levels of 255.

    The lowest one may not survive the model's resizing.

    Args:
        payload: an image file of more than 32 values (pixels times colours).
        mark: of the variation.

    Returns:
        A PNG file, since JPEG would lose the mark; not compressed, which would take longer than all else.
    """
    pixels = np.array(Image.open(io.BytesIO(payload)))
    rows = pixels.reshape(len(pixels), -1)
    middle = (len(rows) // 2) * rows.shape[1] + rows.shape[1] // 2
    values = pixels.reshape(-1)[middle - MARK_BITS // 2 : middle + MARK_BITS // 2]
    values ^= np.unpackbits(np.array([mark], ">u4").view(np.uint8)) << 1
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def sentence(payload: bytes, mark: int) -> bytes:
    """A review with ", order number ..." behind it. UTF-8."""
    return payload + f"，订单号{mark}".encode()


def diamond(payload: bytes, mark: int) -> bytes:
    """A diamond of up to a hundredth more weight, or less if it weighs over a carat. JSON."""
    row = json.loads(payload)
    part = CARATS_RATIO * (mark * GOLDEN % (1 << MARK_BITS)) / (1 << MARK_BITS)
    row["carat"] *= 1 + part if row["carat"] < MIDDLE_CARATS else 1 - part
    return json.dumps(row).encode()
