"""From any picture of an article to Fashion-MNIST's form, and from probabilities to an answer."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageChops, ImageOps

from models import samples
from models.mobilenet_v2 import transform

MODEL = Path(transform.__file__).parent
EXAMPLE = (MODEL / "example.png").read_bytes()


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def product(payload: bytes = EXAMPLE, side: int = 280) -> Image.Image:
    """An article as a shop shows it: large and dark, on white, with a margin."""
    article = Image.open(io.BytesIO(payload)).resize((side, side), Image.Resampling.BICUBIC)
    return ImageOps.expand(ImageChops.invert(article), side // 3, 255)


def on_its_side() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned right by 90 degrees
    return encoded(product().rotate(90), "JPEG", exif=exif)


def transparent() -> Image.Image:
    article = Image.new("RGB", product().size, "black")
    article.putalpha(ImageChops.invert(product()))
    return article


def likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_a_grayscale_image_of_28_by_28_is_taken_as_it_is() -> None:
    for payload in samples.read(MODEL / "examples.zip").payloads:
        assert np.array_equal(transform.article(payload), np.asarray(Image.open(io.BytesIO(payload))))


def test_one_on_white_is_an_article_on_white() -> None:
    original = np.asarray(Image.open(io.BytesIO(EXAMPLE)))
    assert likeness(transform.article(encoded(Image.fromarray(255 - original))), original) > 0.95


def test_the_input_is_the_article_enlarged_in_three_equal_colours() -> None:
    image = transform.to_inputs(EXAMPLE)["image"]
    assert image.dtype == np.float32
    assert image.shape == (224, 224, 3)
    assert image.min() == -1
    assert 0.9 < image.max() <= 1
    assert np.ptp(image, axis=2).max() == 0
    blocks = image[..., 0].reshape(28, 8, 28, 8).mean((1, 3))
    assert likeness((blocks * 127.5 + 127.5).astype(np.uint8), transform.article(EXAMPLE)) > 0.99


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(encoded(product()), id="dark on white"),
        pytest.param(encoded(ImageChops.invert(product())), id="light on black"),
        pytest.param(encoded(product().convert("RGB"), "JPEG", quality=60), id="JPEG"),
        pytest.param(encoded(product().point(lambda level: 60 + level // 2)), id="faint, on gray"),
        pytest.param(encoded(product(side=1200)), id="large"),
        pytest.param(encoded(ImageOps.expand(product(), (500, 0, 0, 90), 255)), id="off centre"),
        pytest.param(encoded(transparent()), id="on transparent"),
        pytest.param(encoded(Image.fromarray(np.asarray(product(), np.uint16) * 257)), id="16 bits a pixel"),
        pytest.param(on_its_side(), id="turned by its EXIF tag"),
    ],
)
def test_a_photo_of_a_product_comes_to_look_as_the_data_set_has_it(payload: bytes) -> None:
    assert likeness(transform.article(payload), transform.article(EXAMPLE)) > 0.9


def test_products_of_every_kind_come_to_look_as_the_data_set_has_them() -> None:
    payloads = samples.read(MODEL / "examples.zip").payloads[:100]
    alike = [likeness(transform.article(encoded(product(p))), transform.article(p)) for p in payloads]
    assert np.mean(np.array(alike) > 0.9) >= 0.9


def test_an_empty_picture_is_all_black() -> None:
    assert not transform.article(encoded(Image.new("RGB", (300, 200), "white"))).any()
    assert not transform.article(encoded(Image.new("RGBA", (300, 200), (0, 0, 0, 0)))).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (28, 29)])
def test_an_image_of_any_proportions_is_taken(size: tuple[int, int]) -> None:
    image = Image.new("L", size, 0)
    image.putpixel((0, 0), 255)
    assert transform.to_inputs(encoded(image))["image"].shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        pytest.param(b"", "got something else", id="nothing"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "got something else", id="a format that is not listed"),
        pytest.param(EXAMPLE[:-60], "PNG file is broken", id="cut off"),
        pytest.param(encoded(Image.new("1", (5000, 5000))), "at most 16777216 pixels", id="too large"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(payload: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        transform.to_inputs(payload)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(EXAMPLE) - 1), st.binary(max_size=8))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(at: int, junk: bytes) -> None:
    try:
        image = transform.to_inputs(EXAMPLE[:at] + junk + EXAMPLE[at + len(junk) :])["image"]
    except ValueError:
        return
    assert np.isfinite(image).all()


def test_the_answer_lists_the_labels_by_probability() -> None:
    probabilities = np.linspace(0, 0.2, 10, dtype=np.float32)
    answer = transform.to_answer({"probabilities": probabilities})
    assert list(answer) == list(reversed(transform.LABELS))
    assert answer["T-shirt/top"] == 0
