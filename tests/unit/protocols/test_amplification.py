"""A body within the limit that would cost far more than its size is refused before it does."""

import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from gateway.errors import InvalidRequest, MalformedBody
from gateway.protocols import oip_json
from gateway.protocols.multipart import MAX_PARTS, parse_multipart
from gateway.protocols.oip_fields import MAX_PARAMETERS
from gateway.protocols.oip_grpc_request import read_infer_message
from gateway.protocols.oip_json import parse_json
from gateway.protocols.oip_request import read_infer_body
from gateway.protocols.tfserving_request import read_inputs
from gateway.protocols.torchserve_http import MAX_ESCAPES, _parse_form
from services.protocol import open_inference_pb2 as oip
from tests.fakes import a_contract
from tests.unit.protocols.tfserving_http_rig import DIGITS, Rig

QUICK_SECONDS = 2.0
"""Each of these took from five seconds to minutes when all of it was looked at."""


@pytest.fixture(autouse=True)
def _is_quick() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < QUICK_SECONDS


def test_json_of_too_many_values_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip_json, "VALUES_LIMIT", 100)
    assert len(parse_json(b"[" + b"0," * 100 + b"0]")) == 101
    with pytest.raises(MalformedBody, match="expected at most 100 values, got 101"):
        parse_json(memoryview(b"[" + b"0," * 101 + b"0]"))


@pytest.mark.parametrize("text", [b"[" + b'"a",' * 400_000 + b"Inf]", b"[" + b"Inf," * 400_000 + b"0]"])
def test_inf_among_very_many_strings_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedBody, match="write Infinity"):
        parse_json(text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"instances": [[]] * 3_000_000}, "expected a batch of 1 to 8, got a batch of 3000000"),
        ({"inputs": [[]] * 3_000_000}, "expected shape [-1, 2, 2], got shape [3000000, 0]"),
        ({"instances": [[[0.0, 1.0]] * 3_000_000]}, "got shape [1, 3000000, 2]"),
    ],
)
def test_a_shape_that_does_not_fit_ends_the_reading_of_values(content: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_inputs(content, DIGITS)
    assert text in str(refused.value)


def test_a_multipart_body_of_too_many_parts_is_not_read_to_its_end() -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\nx\r\n'
    assert parse_multipart(part * MAX_PARTS + b"--b--\r\n", "multipart/form-data; boundary=b") == {"a": b"x"}
    with pytest.raises(MalformedBody, match=f"expected at most {MAX_PARTS} parts"):
        parse_multipart(part * 400_000 + b"--b--\r\n", "multipart/form-data; boundary=b")


def test_a_form_of_too_many_escapes_is_not_decoded() -> None:
    with pytest.raises(MalformedBody, match=f"expected at most {MAX_ESCAPES} escaped bytes, got 15000000"):
        _parse_form(b"data=" + b"%41" * 15_000_000)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"inputs": [{}] * 1000}, r"inputs: expected \['values'\], got 1000 of them"),
        ({"inputs": [], "outputs": [{}] * 1000}, r"outputs: expected \['sum'\], got 1000 of them"),
        (
            {"inputs": [], "parameters": dict.fromkeys(map(str, range(MAX_PARAMETERS + 1)), 1)},
            f"parameters: expected at most {MAX_PARAMETERS}, got {MAX_PARAMETERS + 1}",
        ),
    ],
)
def test_far_more_tensors_or_parameters_than_there_can_be_are_not_looked_at(
    fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidRequest, match=text):
        read_infer_body(orjson.dumps(fields), None, a_contract())
    message = oip.ModelInferRequest(
        inputs=[oip.ModelInferRequest.InferInputTensor() for _ in fields["inputs"]],
        outputs=[oip.ModelInferRequest.InferRequestedOutputTensor() for _ in fields.get("outputs", [])],
    )
    for name in fields.get("parameters", {}):
        message.parameters[name].int64_param = 1
    with pytest.raises(InvalidRequest, match=text):
        read_infer_message(message, a_contract())


async def test_a_number_of_thousands_of_digits_is_no_version() -> None:
    reply = await Rig().request("POST", f"/v1/models/digits/versions/{'9' * 5000}:predict", {"instances": []})
    assert (reply.status_code, "Failed to convert version: 999" in reply.json()["error"]) == (400, True)
