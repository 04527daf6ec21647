"""TorchServe's REST for models that take texts, and for models that take JSON objects."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from starlette.applications import Starlette

from gateway.catalog import Catalog
from gateway.contract import Contract
from gateway.inference import InferRequest, Tensor
from gateway.protocols.torchserve_http import routes
from tests.fakes import fake_contract
from tests.unit.protocols.torchserve_rig import torchserve_edge

TEXT = "\u5f88\u597d"
"""Two Chinese characters, six bytes."""
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}
STONE = {"carat": 0.5, "cut": "good"}

TOKENS = {"name": "tokens", "datatype": "INT64", "shape": [-1], "padded": {"value": 9, "maximum": 8}}
WORDS = Contract.model_validate(
    {
        **fake_contract(
            "words", {"x": ("INT8", [])}, {"length": ("INT64", [1])}, payload="text"
        ).model_dump(),
        "inputs": [TOKENS],
    }
)
STONES = fake_contract("stones", {"features": ("FP32", [2])}, {"price": ("FP32", [1])}, payload="json")


class Words:
    """Each character's code point is a token; the answer is how many are not padding."""

    def to_inputs(self, payload: bytes) -> dict[str, NDArray[np.generic]]:
        if not payload:
            raise ValueError("expected a text, got none")
        return {"tokens": np.array([ord(character) for character in payload.decode()], np.int64)}

    def to_answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, int]:
        return {"length": int(outputs["length"][0])}


class Stones:
    """Carat and cut; the price is their sum."""

    def to_inputs(self, payload: bytes) -> dict[str, NDArray[np.generic]]:
        stone = orjson.loads(payload)
        if not isinstance(stone, dict) or set(stone) != set(STONE):
            raise ValueError(f"expected the fields {list(STONE)}")
        return {"features": np.array([stone["carat"], stone["cut"] == "good"], np.float32)}

    def to_answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
        return {"price": float(outputs["price"][0])}


CATALOG = Catalog({"words": WORDS, "stones": STONES}, {"words": Words(), "stones": Stones()})


def outputs(request: InferRequest) -> tuple[Tensor, ...]:
    values = request.inputs[0].numpy()
    if request.model == "words":
        return (Tensor.of("length", "INT64", (values != 9).sum(axis=1, keepdims=True)),)
    return (Tensor.of("price", "FP32", values.sum(axis=1, keepdims=True)),)


class Rig:
    """The REST routes over a FakeInfer."""

    def __init__(self) -> None:
        edge, self.infer = torchserve_edge(outputs, catalog=CATALOG)
        transport = httpx.ASGITransport(Starlette(routes=routes(edge)))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    def predict(self, model: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.client.post(f"/predictions/{model}", **options))


@pytest.fixture
def rig() -> Rig:
    return Rig()


TEXT_FORMS: dict[str, dict[str, Any]] = {
    "raw": {"content": TEXT.encode()},
    "text/plain": {"content": TEXT.encode(), "headers": {"content-type": "text/plain; charset=utf-8"}},
    "raw that curl calls a form": {"content": TEXT.encode(), "headers": FORM},
    "a form": {"data": {"data": TEXT, "other": "x"}},
    "a multipart field": {"files": {"data": (None, TEXT.encode())}},
    "a multipart file": {"files": {"data": ("review.txt", TEXT.encode(), "text/plain")}},
    "JSON text": {"json": TEXT},
    "JSON data": {"json": {"data": TEXT}},
    "JSON with a name": {"json": {"text": TEXT}},
    "JSON tokens": {"json": [ord(character) for character in TEXT]},
    "JSON named tokens": {"json": {"tokens": [ord(character) for character in TEXT]}},
}


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_every_form_of_a_text_becomes_the_same_tensor(rig: Rig, form: str) -> None:
    reply = rig.predict("words", **TEXT_FORMS[form])
    assert reply.json() == {"length": 2}, reply.text
    (tensor,) = rig.infer.requests[0].inputs
    assert tensor.numpy().tolist() == [[ord(character) for character in TEXT]]


def test_a_text_that_would_be_base64_is_a_text(rig: Rig) -> None:
    assert rig.predict("words", json="good").json() == {"length": 4}


def test_texts_of_different_lengths_are_filled_up_to_the_longest(rig: Rig) -> None:
    reply = rig.predict("words", json={"instances": ["a", "abc", {"data": "ab"}]})
    assert reply.json() == {"predictions": [{"length": 1}, {"length": 3}, {"length": 2}]}
    (tensor,) = rig.infer.requests[0].inputs
    assert tensor.numpy().tolist() == [[97, 9, 9], [97, 98, 99], [97, 98, 9]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"content": b""}, "expected a text, got none"),
        ({"content": b"\xff"}, "'utf-8' codec can't decode"),
        ({"json": 7}, "expected a text, or numbers for ['tokens']"),
        ({"json": {"instances": ["a", [[97], [98]]]}}, "expected shape [-1, -1]"),
        ({"content": b"123456789"}, "expected 1 to 8 along axis 1, got shape [1, 9]"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(rig: Rig, options: dict[str, Any], said: str) -> None:
    reply = rig.predict("words", **options)
    assert (reply.status_code, said in reply.text) == (400, True), reply.text
    assert rig.infer.requests == []


STONE_FORMS: dict[str, dict[str, Any]] = {
    "JSON": {"json": STONE},
    "a file": {"content": orjson.dumps(STONE)},
    "JSON that curl calls a form": {"content": orjson.dumps(STONE), "headers": FORM},
    "JSON data": {"json": {"data": STONE}},
    "a multipart file": {"files": {"data": orjson.dumps(STONE)}},
    "numbers": {"json": [0.5, 1.0]},
    "named numbers": {"json": {"features": [0.5, 1.0]}},
}


@pytest.mark.parametrize("form", STONE_FORMS)
def test_every_form_of_an_object_becomes_the_same_tensor(rig: Rig, form: str) -> None:
    assert rig.predict("stones", **STONE_FORMS[form]).json() == {"price": 1.5}
    assert rig.infer.requests[0].inputs[0].numpy().tolist() == [[0.5, 1.0]]


def test_objects_may_be_instances_with_any_content_type(rig: Rig) -> None:
    body = orjson.dumps({"instances": [STONE, {**STONE, "carat": 1.0}]})
    for headers in (JSON, {"content-type": "application/octet-stream"}):
        reply = rig.predict("stones", content=body, headers=headers)
        assert reply.json() == {"predictions": [{"price": 1.5}, {"price": 2.0}]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"json": {"carat": 0.5}}, "expected the fields ['carat', 'cut']"),
        ({"json": {}}, "expected the fields ['carat', 'cut']"),
        ({"json": 7}, "expected a JSON object, or numbers for ['features']"),
        ({"content": b"{"}, "the body is not JSON"),
    ],
)
def test_what_is_no_such_object_is_refused_with_the_reason(
    rig: Rig, options: dict[str, Any], said: str
) -> None:
    reply = rig.predict("stones", **options)
    assert (reply.status_code, said in reply.text) == (400, True), reply.text


@pytest.mark.parametrize(
    ("query", "header", "asked"),
    [
        ("?variant=int8", "", "int8"),
        ("?variant=int8", "fp32", "int8"),
        ("?x=1", "int8", "int8"),
        ("", "", "fp32"),
    ],
)
def test_a_variant_is_asked_for_in_the_query_or_by_the_header(
    rig: Rig, query: str, header: str, asked: str
) -> None:
    reply = rig.predict(f"words{query}", content=b"a", headers={"x-inferway-variant": header})
    assert rig.infer.requests[0].variant == asked
    assert reply.headers["x-inferway-variant"] == asked
    assert reply.headers["x-inferway-backend"] == "fake"


def test_a_priority_is_asked_for_by_the_header(rig: Rig) -> None:
    rig.predict("words", content=b"a", headers={"x-request-priority": "3"})
    assert rig.infer.requests[0].priority == 3
