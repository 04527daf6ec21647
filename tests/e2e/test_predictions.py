"""What a person would send to `/predictions`: sentences, drawings, photos and rows that no training saw."""

import io
import json
import urllib.parse
import urllib.request

import pytest
from PIL import Image, ImageDraw

from gateway.configuration import load
from gateway.contract import Contract
from tests.serving import ROOT, StartedGateway

MODELS = ROOT / "models"


@pytest.fixture
def gateway(whole_gateway: StartedGateway) -> StartedGateway:
    return whole_gateway


def variants(model: str) -> list[str]:
    contract = load(Contract, MODELS / model / "model.yaml")
    return list(contract.versions[contract.default_version].variants)


def answer(
    gateway: StartedGateway, model: str, body: bytes, kind: str, variant: str = ""
) -> dict[str, float]:
    query = f"?{urllib.parse.urlencode({'variant': variant})}" if variant else ""
    url = f"http://{gateway.http}/predictions/{model}{query}"
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        assert reply.headers["x-inferway-variant"] == (variant or "fp32")
        found: dict[str, float] = json.loads(reply.read())
    return found


def likeliest(found: dict[str, float]) -> str:
    return max(found, key=found.__getitem__)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


SENTENCES = {
    "这家酒店位置很好，房间宽敞干净，服务员热情周到，早餐丰富，非常满意！": "positive",
    "电脑性价比很高，运行速度快，外观漂亮，很喜欢。": "positive",
    "这本书太好看了": "positive",
    "电影很感人，看哭了": "positive",
    "没有让我失望": "positive",
    "这本书一点意思都没有": "negative",
    "菜又贵又难吃": "negative",
    "房间又小又脏，隔音太差，服务态度恶劣，再也不会来了。": "negative",
    "质量太差了，用了两天就坏了，客服也不理人，后悔买了。": "negative",
    "送货慢，屏幕有坏点，散热不好，风扇声音很大，失望。": "negative",
}


@pytest.mark.parametrize("variant", variants("bert_chinese"))
@pytest.mark.parametrize("text", SENTENCES)
def test_a_review_is_judged_as_its_writer_meant_it(gateway: StartedGateway, text: str, variant: str) -> None:
    found = answer(gateway, "bert_chinese", text.encode(), "text/plain; charset=utf-8", variant)
    assert likeliest(found) == SENTENCES[text]
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


def drawn(digit: int) -> bytes:
    """A digit in strokes of a thick pen, dark on light paper, not in the middle."""
    sheet = Image.new("L", (160, 200), 245)
    pen = ImageDraw.Draw(sheet)
    if digit == 0:
        pen.ellipse((50, 40, 120, 160), outline=30, width=12)
    elif digit == 1:
        pen.line((90, 40, 85, 160), fill=30, width=12)
    elif digit == 4:
        pen.line((60, 40, 55, 105, 115, 105), fill=30, width=11, joint="curve")
        pen.line((105, 40, 100, 165), fill=30, width=11)
    else:
        pen.line((50, 50, 115, 50, 80, 165), fill=30, width=12, joint="curve")
    return png(sheet)


@pytest.mark.parametrize("variant", variants("cnn_mnist"))
@pytest.mark.parametrize("digit", [0, 1, 4, 7])
def test_a_digit_drawn_by_hand_is_read(gateway: StartedGateway, digit: int, variant: str) -> None:
    found = answer(gateway, "cnn_mnist", drawn(digit), "image/png", variant)
    assert likeliest(found) == str(digit)


def garment(kind: str) -> bytes:
    """A plain product picture: a dark garment on a white page."""
    page = Image.new("RGB", (300, 360), (255, 255, 255))
    pen = ImageDraw.Draw(page)
    if kind == "Trouser":
        pen.polygon(
            [(95, 20), (205, 20), (225, 340), (165, 340), (150, 120), (135, 340), (75, 340)], (40, 40, 90)
        )
    else:
        pen.polygon(
            [(100, 40), (200, 40), (285, 110), (250, 150), (215, 120), (215, 330), (85, 330), (85, 120),
             (50, 150), (15, 110)],
            (120, 30, 30),
        )  # fmt: skip
    return png(page)


@pytest.mark.parametrize("variant", variants("mobilenet_v2"))
@pytest.mark.parametrize("kind", ["Trouser", "T-shirt/top"])
def test_a_product_picture_is_recognised(gateway: StartedGateway, kind: str, variant: str) -> None:
    assert likeliest(answer(gateway, "mobilenet_v2", garment(kind), "image/png", variant)) == kind


def photo(name: str, turn: float) -> bytes:
    """A photo, mirrored, cropped and turned a little: not the file itself."""
    image = Image.open(MODELS / "efficientnet_lite0" / "photos" / name).convert("RGB")
    width, height = image.size
    cropped = image.crop((width // 20, height // 20, width - width // 20, height - height // 20))
    return png(cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(turn, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("variant", variants("efficientnet_lite0"))
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat.jpg", {"tabby cat", "tiger cat", "Egyptian Mau"}),
        ("espresso.jpg", {"espresso"}),
        ("daisy.jpg", {"daisy"}),
    ],
)
def test_a_photo_is_named(gateway: StartedGateway, name: str, words: set[str], variant: str) -> None:
    assert likeliest(answer(gateway, "efficientnet_lite0", photo(name, 3), "image/png", variant)) in words


def test_a_diamond_is_priced_and_a_larger_one_higher(gateway: StartedGateway) -> None:
    row = {"carat": 0.6, "cut": "Premium", "color": "F", "clarity": "SI1"}
    small = answer(gateway, "diamonds", json.dumps(row).encode(), "application/json")
    large = answer(gateway, "diamonds", json.dumps(row | {"carat": 1.5}).encode(), "application/json")
    assert 800 < small["price"] < 4000
    assert large["price"] > 3 * small["price"]
