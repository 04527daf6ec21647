"""From any photo to the network's input, and from probabilities to an answer."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from models.efficientnet_lite0 import transform


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(payload: bytes) -> NDArray[np.float32]:
    """What the network sees, as 0..255."""
    return transform.to_inputs(payload)["image"] * 128 + 127


def photo(width: int = 512, height: int = 384) -> Image.Image:
    """Smooth, and different towards each side: red to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 50)], 2).astype(np.uint8))


def test_one_colour_is_scaled_as_the_network_was_trained() -> None:
    values = transform.to_inputs(encoded(Image.new("RGB", (300, 300), (255, 127, 0))))["image"]
    assert values.shape == (224, 224, 3)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[100, 100], [1.0, 0.0, -127 / 128])


def test_of_a_wide_photo_the_middle_square_is_seen_less_an_eighth() -> None:
    seen = pixels(encoded(photo(512, 256)))
    middle, half = 255 * 0.5, 255 * 112 / 512  # 224 of 512 columns
    assert seen[112, 0, 0] == pytest.approx(middle - half, abs=2)
    assert seen[112, -1, 0] == pytest.approx(middle + half, abs=2)
    assert seen[0, 112, 1] == pytest.approx(255 / 16, abs=2)


def test_a_photo_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be shown turned a quarter to the right
    lying = photo(256, 256).transpose(Image.Transpose.ROTATE_90)
    turned = pixels(encoded(lying, "JPEG", exif=exif, quality=95))
    np.testing.assert_allclose(turned, pixels(encoded(photo(256, 256))), atol=6)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_three_colours(mode: str) -> None:
    gray = photo().convert("L")
    if mode == "I;16":
        image = Image.fromarray((np.asarray(gray).astype(np.uint16)) * 257)
    else:
        image = gray.convert("RGB").convert(mode)
    seen = pixels(encoded(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert seen.shape == (224, 224, 3)
    np.testing.assert_allclose(seen.mean((0, 1)), pixels(encoded(gray)).mean(), atol=3)


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    np.testing.assert_allclose(pixels(encoded(clear)), 255)


def test_a_large_jpeg_looks_like_the_same_photo_as_png() -> None:
    large = photo(4000, 3000)
    difference = np.abs(pixels(encoded(large, "JPEG", quality=95)) - pixels(encoded(large)))
    assert difference.max() < 4


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
def test_the_smallest_and_narrowest_pictures_are_taken(size: tuple[int, int]) -> None:
    np.testing.assert_allclose(pixels(encoded(Image.new("RGB", size, "red")))[0, 0], [255, 0, 0])


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "image: expected a PNG, JPEG"),
        (b"<svg/>", "image: expected a PNG, JPEG"),
        (encoded(photo())[:1000], "image: the PNG file is broken"),
        (encoded(Image.new("1", (5000, 5000))), "image: expected at most 16777216 pixels, got 5000 x 5000"),
        (
            encoded(Image.new("L", (9000, 9000)), "JPEG"),
            "image: expected at most 67108864 pixels, got 9000 x 9000",
        ),
    ],
    ids=["empty", "other format", "cut off", "large PNG", "large JPEG"],
)
def test_what_is_no_photo_is_refused_with_the_reason(payload: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform.to_inputs(payload)


def test_the_answer_is_the_five_most_probable_labels_in_order() -> None:
    probabilities = np.zeros(1000, np.float32)
    probabilities[[967, 985, 0, 1, 2, 3]] = [0.5, 0.2, 0.1, 0.08, 0.07, 0.05]
    answer = transform.to_answer({"probabilities": probabilities})
    assert list(answer) == ["espresso", "daisy", "tench", "goldfish", "great white shark"]
    assert answer["espresso"] == 0.5


def test_no_two_labels_are_the_same() -> None:
    assert len(set(transform.LABELS)) == len(transform.LABELS) == 1000
