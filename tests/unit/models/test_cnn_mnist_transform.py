"""From any picture of a digit to MNIST's form, and from probabilities to an answer."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageChops, ImageOps

from models import samples
from models.cnn_mnist import transform
from tests.serving import BUILT

MODEL = Path(transform.__file__).parent
EXAMPLE = (MODEL / "example.png").read_bytes()


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(payload: bytes) -> NDArray[np.float32]:
    return transform.to_inputs(payload)["image"]


def drawing(side: int = 280) -> Image.Image:
    """The example, enlarged, as dark ink on white paper with a wide margin."""
    seven = Image.open(io.BytesIO(EXAMPLE)).resize((side, side), Image.Resampling.BICUBIC)
    return ImageOps.expand(ImageChops.invert(seven), side // 2, 255)


def network() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(BUILT / "onnx/cnn_mnist/1/model.onnx")


def answer(payload: bytes) -> str:
    (probabilities,) = network().run(["probabilities"], {"image": pixels(payload)[np.newaxis]})
    return next(iter(transform.to_answer({"probabilities": np.asarray(probabilities)[0]})))


def examples() -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    held = samples.read(MODEL / "examples.zip")
    images = [np.asarray(Image.open(io.BytesIO(payload))) for payload in held.payloads]
    return images, held.labels.astype(np.int64)


def test_a_grayscale_image_of_28_by_28_on_dark_paper_is_taken_bit_for_bit() -> None:
    for image in examples()[0][:50]:
        result = pixels(encoded(Image.fromarray(image)))
        assert result.dtype == np.float32
        assert result.shape == (28, 28, 1)
        assert np.array_equal(result[:, :, 0], image.astype(np.float32) / np.float32(255))


def test_held_out_digits_of_28_by_28_are_known_in_dark_ink_on_white_too() -> None:
    images, labels = examples()
    inputs = np.stack([pixels(encoded(Image.fromarray(255 - image))) for image in images[:200]])
    (probabilities,) = network().run(["probabilities"], {"image": inputs})
    assert (np.asarray(probabilities).argmax(1) == labels[:200]).mean() >= 0.97


def with_transparent_paper(ink: int) -> Image.Image:
    paper = Image.new("L", drawing().size, ink)
    paper.putalpha(ImageChops.invert(drawing()))
    return paper


def lying_on_its_side() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned right by 90 degrees
    return encoded(drawing().rotate(90), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(encoded(drawing()), id="dark ink on white"),
        pytest.param(encoded(ImageChops.invert(drawing())), id="light ink on black"),
        pytest.param(encoded(drawing().convert("RGB"), "JPEG", quality=60), id="JPEG"),
        pytest.param(encoded(drawing().convert("RGB").convert("P")), id="palette"),
        pytest.param(encoded(drawing().convert("1")), id="one bit"),
        pytest.param(encoded(drawing().point(lambda level: 90 + level // 2)), id="faint"),
        pytest.param(encoded(drawing(900)), id="large"),
        pytest.param(encoded(drawing(20)), id="small"),
        pytest.param(encoded(ImageOps.expand(drawing(), (600, 0, 0, 90), 255)), id="off centre"),
        pytest.param(encoded(with_transparent_paper(0)), id="dark ink on transparent"),
        pytest.param(encoded(with_transparent_paper(255)), id="light ink on transparent"),
        pytest.param(encoded(Image.fromarray(np.asarray(drawing(), np.uint16) * 257)), id="16 bits a pixel"),
        pytest.param(lying_on_its_side(), id="turned by its EXIF tag"),
    ],
)
def test_a_digit_is_known_however_it_is_drawn(payload: bytes) -> None:
    assert answer(payload) == "7"


def test_most_held_out_digits_are_known_as_large_drawings_in_a_corner_of_the_paper() -> None:
    images, labels = examples()
    inputs = []
    for image in images[:200]:
        paper = Image.new("L", (400, 300), 235)
        paper.paste(ImageChops.invert(Image.fromarray(image)).resize((224, 224)).point(lambda v: min(v, 235)))
        inputs.append(pixels(encoded(paper)))
    (probabilities,) = network().run(["probabilities"], {"image": np.stack(inputs)})
    assert (np.asarray(probabilities).argmax(1) == labels[:200]).mean() >= 0.97


def test_an_empty_sheet_is_all_black() -> None:
    assert not pixels(encoded(Image.new("RGB", (300, 200), "white"))).any()
    assert not pixels(encoded(Image.new("RGBA", (300, 200), (0, 0, 0, 0)))).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (28, 29)])
def test_an_image_of_any_proportions_is_taken(size: tuple[int, int]) -> None:
    image = Image.new("L", size, 0)
    image.putpixel((0, 0), 255)
    assert pixels(encoded(image)).shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        pytest.param(b"", "got something else", id="nothing"),
        pytest.param(b'{"instances": [[1]]}', "got something else", id="JSON"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "got something else", id="a format that is not listed"),
        pytest.param(EXAMPLE[:-60], "PNG file is broken", id="cut off"),
    ],
)
def test_what_is_not_an_image_is_a_value_error_of_one_line(payload: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        transform.to_inputs(payload)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [4097, 10_000, 20_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    header = bytearray(EXAMPLE)
    header[16:24] = struct.pack(">II", side, side)  # width and height in IHDR
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    with pytest.raises(ValueError, match="expected at most 16777216 pixels"):
        transform.to_inputs(bytes(header))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(EXAMPLE) - 1),
    st.binary(min_size=1, max_size=8),
    st.sampled_from(["PNG", "GIF", "TIFF"]),
)
def test_a_damaged_file_is_an_image_or_a_value_error(place: int, damage: bytes, form: str) -> None:
    payload = bytearray(encoded(Image.open(io.BytesIO(EXAMPLE)), form))
    payload[place : place + len(damage)] = damage
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what it can mend
        try:
            image = pixels(bytes(payload))
        except ValueError:
            return
    assert image.shape == (28, 28, 1)
    assert np.isfinite(image).all()


def test_an_answer_lists_labels_by_probability() -> None:
    probabilities = np.zeros(10, np.float32)
    probabilities[[3, 8, 1]] = 0.5, 0.3, 0.2
    answered = transform.to_answer({"probabilities": probabilities})
    assert list(answered)[:4] == ["3", "8", "1", "0"]
    assert answered["3"] == 0.5
    assert set(answered) == set("0123456789")
