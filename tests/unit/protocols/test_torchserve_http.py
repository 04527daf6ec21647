"""TorchServe's REST over a FakeInfer."""

import asyncio
import base64
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette

from gateway.errors import Unavailable
from gateway.inference import split_bytes
from gateway.protocols.torchserve_http import routes
from tests.fakes import Answer
from tests.unit.protocols.torchserve_rig import FILE, torchserve_edge

EVEN = b"IMG\x01\x02\x04"


class Rig:
    """The routes over a FakeInfer."""

    def __init__(self, *answers: Answer, **attributes: Any) -> None:
        self.edge, self.infer = torchserve_edge(*answers, **attributes)
        transport = httpx.ASGITransport(Starlette(routes=routes(self.edge)))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.client.request(method, path, **options))

    def predict(self, path: str = "digits", **options: Any) -> httpx.Response:
        return self.request("POST", f"/predictions/{path}", **options)


@pytest.fixture
def rig() -> Rig:
    return Rig()


ENCODED = base64.b64encode(FILE).decode()
FORMS: dict[str, dict[str, Any]] = {
    "raw": {"content": FILE},
    "raw with an image type": {"content": FILE, "headers": {"content-type": "image/png"}},
    "raw that curl calls a form": {
        "content": FILE,
        "headers": {"content-type": "application/x-www-form-urlencoded"},
    },
    "a form": {
        "content": b"data=IMG%01%02%03&x=1",
        "headers": {"content-type": "application/x-www-form-urlencoded"},
    },
    "multipart data": {"files": {"data": FILE}},
    "multipart body": {"files": {"body": FILE, "other": b"x"}},
    "multipart with any name": {"files": {"picture": ("digit.png", FILE, "image/png")}},
    "JSON text": {"json": ENCODED},
    "JSON data": {"json": {"data": ENCODED}},
    "JSON b64": {"json": {"b64": ENCODED}},
    "JSON numbers": {"json": [1, 2, 3]},
    "JSON named numbers": {"json": {"image": [1, 2, 3]}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_becomes_the_same_tensor(rig: Rig, form: str) -> None:
    reply = rig.predict(**FORMS[form])
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert list(reply.json().items()) == [("odd", 1.0), ("even", 0.0)]
    (asked,) = rig.infer.requests
    (tensor,) = asked.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("image", "UINT8", (1, 3))
    assert bytes(tensor.data) == b"\x01\x02\x03"


def test_put_works_as_curl_t_sends_it(rig: Rig) -> None:
    reply = rig.request("PUT", "/predictions/digits/2", content=EVEN)
    assert reply.json() == {"even": 1.0, "odd": 0.0}
    assert rig.infer.requests[0].version == "2"
    assert reply.headers["x-inferway-version"] == "2"
    assert reply.headers["x-inferway-backend"] == "fake"


def test_version_1_0_of_an_archive_is_version_1(rig: Rig) -> None:
    assert rig.predict("digits/1.0", content=FILE).status_code == 200
    assert rig.infer.requests[0].version == "1"


def test_instances_are_one_batch_and_come_back_as_predictions(rig: Rig) -> None:
    instances = [[1, 2, 3], {"image": [1, 2, 4]}, {"data": ENCODED}, ENCODED]
    reply = rig.predict(json={"instances": instances})
    odd, even = {"odd": 1.0, "even": 0.0}, {"even": 1.0, "odd": 0.0}
    assert reply.json() == {"predictions": [odd, even, odd, odd]}
    assert rig.infer.requests[0].inputs[0].shape == (4, 3)


def test_a_model_without_a_transform_takes_and_gives_json(rig: Rig) -> None:
    reply = rig.predict("plain", json={"x": [0.5, -1]})
    assert reply.json() == {"y": [0.5, -1.0], "name": ["row"]}
    reply = rig.predict("pair", json={"a": 3, "b": [1, 2]})
    assert reply.status_code == 400, "a scalar is not a list"
    assert rig.predict("plain", content=b'{"x": [0.5, -1]}').status_code == 200


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"content": b"not an image"}, "image: expected an IMG file"),
        ({"content": b""}, "expected a file, got nothing"),
        ({"files": {"data": b"no"}}, "image: expected an IMG file"),
        ({"json": "%%%"}, "base64"),
        ({"json": {}}, "expected a file, got nothing"),
        ({"json": 7}, "expected a file, a file in base64, or numbers for ['image']"),
        ({"json": {"data": None}}, "expected a file, a file in base64, or numbers for ['image']"),
        ({"json": [1, 2]}, "tensor 'image': expected shape [-1, 3], got shape [1, 2]"),
        ({"json": [1, 2, "3"]}, "tensor 'image': expected numbers that fit UINT8"),
        ({"json": [1, 2, 300]}, "tensor 'image': expected numbers that fit UINT8"),
        ({"json": {"instances": []}}, "'instances': expected a list of 1 to 8 items, got 0 items"),
        ({"json": {"instances": [[1, 2, 3]] * 9}}, "'instances': expected a list of 1 to 8 items, got 9"),
        ({"json": {"instances": [[1, 2, 3], [1, 2]]}}, "expected shape [-1, 3], got shape [1, 2]"),
        ({"json": {"instances": [{"image": [1, 2, 3]}, {"data": "gr\u00fcn"}]}}, "expected a file in base64"),
        ({"json": "gr\u00fcn"}, "expected a file in base64, got other text"),
        ({"json": {"image": [[[[1]]]] * 3}}, "expected shape [-1, 3], got shape [1, 3, 1, 1, 1]"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, "not JSON"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "boundary"),
        (
            {"content": b"--b\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            "cut short",
        ),
        (
            {
                "content": b"--b\r\nX: y\r\n\r\nz\r\n--b--\r\n",
                "headers": {"content-type": "multipart/form-data; boundary=b"},
            },
            "a part without one",
        ),
    ],
)
def test_bad_input_is_a_400_in_torchserves_words_and_costs_no_call(
    rig: Rig, options: dict[str, Any], expected: str
) -> None:
    reply = rig.predict(**options)
    assert reply.status_code == 400
    body = reply.json()
    assert (body["code"], body["type"]) == (400, "BadRequestException")
    assert expected in body["message"]
    assert rig.infer.requests == []


def test_unknown_models_and_versions_are_404_with_torchserves_types(rig: Rig) -> None:
    assert rig.predict("nope", content=FILE).json() == {
        "code": 404,
        "type": "ModelNotFoundException",
        "message": "Model not found: nope",
    }
    reply = rig.predict("digits/9", content=FILE)
    assert (reply.status_code, reply.json()["type"]) == (404, "ModelVersionNotFoundException")
    assert rig.predict("digits/9", content=b"no image either").status_code == 404
    assert rig.request("GET", "/models/nope").json()["type"] == "ModelNotFoundException"
    assert rig.request("GET", "/models/digits/9").json()["type"] == "ModelVersionNotFoundException"
    assert rig.infer.requests == []


def test_no_endpoint_left_is_a_503_with_retry_after() -> None:
    reply = Rig(Unavailable("no endpoint left", retry_after_seconds=2)).predict(content=FILE)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.json() == {"code": 503, "type": "ServiceUnavailableException", "message": "no endpoint left"}


def test_a_body_over_the_limit_is_a_413(rig: Rig) -> None:
    reply = rig.predict(content=bytes(2 * 1024 * 1024))
    assert (reply.status_code, reply.json()["type"]) == (413, "RequestEntityTooLargeException")


def test_large_multipart_files_survive_whole() -> None:
    rig = Rig(max_request_bytes=8 * 1024 * 1024)
    payload = bytes(range(256)) * 4096 * 4 + b"\r\n--not the boundary"
    reply = rig.predict("own", files={"data": payload})
    assert reply.content == b"raw \xff reply"
    (tensor,) = rig.infer.requests[0].inputs
    assert list(split_bytes(tensor)) == [payload]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"content": b"\x00\xff"}, {"body": b"\x00\xff"}),
        ({"json": {"a": 1}}, {"body": b'{"a":1}'}),
        ({"files": {"data": b"\x00\xff", "other": b"x"}}, {"data": b"\x00\xff", "other": b"x"}),
        ({"data": {"a": "1", "b": "\u00e9"}}, {"a": b"1", "b": "\u00e9".encode()}),
    ],
)
def test_fields_of_a_model_without_a_contract_pass_unchanged(
    rig: Rig, options: dict[str, Any], fields: dict[str, bytes]
) -> None:
    reply = rig.predict("own", **options)
    assert (reply.status_code, reply.content) == (200, b"raw \xff reply")
    (asked,) = rig.infer.requests
    assert {tensor.name: next(iter(split_bytes(tensor))) for tensor in asked.inputs} == fields
    assert all(tensor.shape == (1,) and tensor.datatype == "BYTES" for tensor in asked.inputs)
    assert asked.key == b""


def test_ping_says_whether_every_model_can_be_answered() -> None:
    reply = Rig().request("GET", "/ping")
    assert (reply.status_code, reply.text) == (200, '{\n  "status": "Healthy"\n}\n')
    reply = Rig(ready=False).request("GET", "/ping")
    assert (reply.status_code, reply.json()) == (500, {"status": "Unhealthy"})


@pytest.mark.parametrize(
    ("query", "names", "token"),
    [
        ("", ["digits", "own", "pair", "plain"], None),
        ("?limit=2", ["digits", "own"], "2"),
        ("?limit=2&next_page_token=2", ["pair", "plain"], "4"),
        ("?next_page_token=9", [], None),
        ("?limit=0", [], "0"),
        ("?limit=abc", ["digits", "own", "pair", "plain"], None),
        ("?limit=-1&next_page_token=-3", ["digits", "own", "pair", "plain"], None),
    ],
)
def test_models_come_in_pages(rig: Rig, query: str, names: list[str], token: str | None) -> None:
    body = rig.request("GET", f"/models{query}").json()
    assert body["models"] == [{"modelName": name, "modelUrl": f"{name}.mar"} for name in names]
    assert body.get("nextPageToken") == token


def test_a_described_model_has_a_worker_that_is_ready_as_its_pool_is(rig: Rig) -> None:
    (entry,) = rig.request("GET", "/models/digits").json()
    assert (entry["modelVersion"], entry["batchSize"], entry["workers"][0]["status"]) == ("1", 8, "READY")
    assert [each["modelVersion"] for each in rig.request("GET", "/models/digits/all").json()] == ["1", "2"]
    assert rig.request("GET", "/models/digits/2").json()[0]["modelVersion"] == "2"
    (entry,) = Rig(ready=False).request("GET", "/models/own").json()
    assert entry["workers"][0]["status"] == "UNLOADING"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models?url=x.mar"),
        ("PUT", "/models/digits?min_worker=3"),
        ("DELETE", "/models/digits"),
        ("DELETE", "/models/digits/1"),
        ("PUT", "/models/digits/1/set-default"),
    ],
)
def test_models_cannot_be_changed_over_the_network(rig: Rig, method: str, path: str) -> None:
    reply = rig.request(method, path)
    assert reply.status_code == 405
    assert orjson.loads(reply.content)["type"] == "MethodNotAllowedException"


@pytest.mark.parametrize("path", ["/explanations/digits", "/explanations/digits/1"])
def test_explanations_are_refused_with_a_reason(rig: Rig, path: str) -> None:
    reply = rig.request("POST", path, content=FILE)
    assert (reply.status_code, reply.json()["code"]) == (501, 501)
    assert "explanations" in reply.json()["message"]
