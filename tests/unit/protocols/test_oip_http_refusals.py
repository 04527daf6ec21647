"""OIP REST: what is wrong with a request is a 4xx that says what, and costs no inference."""

import gzip
from typing import Any

import orjson
import pytest

from gateway.errors import DeadlineExceeded, Unavailable
from gateway.protocols.oip_http import UNSUPPORTED_PATHS
from tests.unit.protocols.oip_http_rig import INFER, Rig, header_and, image, refused, tensor


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"hello", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b'{"inputs": NaN', "not JSON"),
        (b'{"inputs": NaN, "id": "\\ud800"}', "not JSON"),
        (b'"' + b'\\"' * 200_000 + b"Inf", "not JSON"),
        ([], "expected an object, got []"),
        ({}, "'inputs': expected a list, got nothing"),
        ({"inputs": {}}, "'inputs': expected a list, got an object"),
        ({"inputs": [3]}, "inputs[0]: expected an object, got 3"),
        (image(outputs={}), "'outputs': expected a list, got an object"),
        (image(outputs=["scores"]), 'outputs[0]: expected an object, got "scores"'),
        (image(outputs=[{}]), "outputs[0].'name': expected a string, got nothing"),
        (image(id=7), "'id': expected a string, got 7"),
        (image(parameters=7), "'parameters': expected an object, got 7"),
        (image(parameters={"timeout": "a"}), "parameter 'timeout': expected an integer, got \"a\""),
        (image(parameters={"timeout": True}), "parameter 'timeout': expected an integer, got true"),
        (image(parameters={"timeout": -1}), "parameter 'timeout': expected a non-negative"),
        (image(parameters={"priority": 1.5}), "parameter 'priority': expected an integer"),
        (image(parameters={"variant": 8}), "parameter 'variant': expected a string, got 8"),
        (image(parameters={"binary_data_output": 1}), "'binary_data_output': expected true or false, got 1"),
        (image(parameters={"x": [1]}), "parameter 'x': expected a string"),
        (image(parameters={"x": 2**63}), "parameter 'x'"),
        (image(parameters={"triton_x": 1}), "'triton_' is reserved"),
    ],
)
def test_body_of_the_wrong_form_is_a_400_that_names_the_field(rig: Rig, body: Any, words: str) -> None:
    refused(rig, body, words)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"name": "y"}, "'y': expected the outputs ['scores', 'sum'], got an unknown output"),
        (
            {"name": "sum", "parameters": {"binary_data": "a"}},
            "output 'sum': 'binary_data': expected true or",
        ),
        ({"name": "sum", "parameters": {"classification": "a"}}, "'classification': expected an integer"),
        ({"name": "sum", "parameters": {"classification": -1}}, "'classification': expected a non-negative"),
    ],
)
def test_wrong_output_is_a_400_that_names_it(rig: Rig, output: dict[str, Any], words: str) -> None:
    refused(rig, image(outputs=[output]), words)


def test_output_that_cannot_have_the_form_asked_for_costs_no_inference(rig: Rig) -> None:
    entry = {"name": "x", "shape": [1, 1], "datatype": "FP16", "parameters": {"binary_data_size": 2}}
    body, headers = header_and({"inputs": [entry]}, b"12")
    words = "'y': expected 'binary_data': true, since JSON cannot hold FP16"
    refused(rig, body, words, path="/v2/models/fp16/infer", headers=headers)
    classified = {"name": "y", "parameters": {"classification": 1}}
    reply = rig.infer_x("BYTES", ["a"], outputs=[classified])
    assert "'y': expected a numeric output for 'classification', got BYTES" in reply.json()["error"]
    assert rig.infer.requests == []


def test_text_that_is_not_utf8_needs_binary(rig: Rig) -> None:
    entry = {"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    body, headers = header_and({"inputs": [entry]}, b"\x01\x00\x00\x00\xff")
    reply = rig.request("POST", "/v2/models/bytes/infer", body, **headers)
    assert (reply.status_code, "'y': expected UTF-8 text" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("length", ["abc", "-1", "9999", "1" * 5000, "1_0", ""])
def test_header_length_that_is_no_length_is_refused(rig: Rig, length: str) -> None:
    reply = rig.request("POST", INFER, image(), Inference_Header_Content_Length=length)
    assert reply.status_code == 400
    assert "Inference-Header-Content-Length: expected 0 to" in reply.json()["error"]


def test_too_many_and_too_few_binary_bytes_are_refused(rig: Rig) -> None:
    entry = {"name": "image", "shape": [1, 2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    body, headers = header_and({"inputs": [entry]}, bytes(17))
    refused(rig, body, "expected 16 bytes of binary data behind the JSON, got 17", headers=headers)
    refused(rig, body[:-2], "'image': expected 16 bytes behind the JSON, got 15", headers=headers)
    entry["parameters"] = {"binary_data_size": 12}
    body, headers = header_and({"inputs": [entry]}, bytes(12))
    refused(rig, body, "'image': expected 16 bytes for FP32 [1, 2, 2], got 12 bytes", headers=headers)


def test_raw_input_of_the_wrong_size_is_refused(rig: Rig) -> None:
    raw = {"Inference_Header_Content_Length": "0"}
    refused(rig, bytes(15), "'image': expected 16 bytes for FP32 [1, 2, 2], got 15 bytes", headers=raw)
    words = "'x': expected a shape of one element, as a raw BYTES input needs, got [-1]"
    refused(rig, b"hello", words, path="/v2/models/bytes/infer", headers=raw)
    refused(rig, bytes(15), "'x': expected 12 bytes", path="/v2/models/fp32/infer", headers=raw)


def test_unknown_model_version_and_variant_are_404(rig: Rig) -> None:
    refused(rig, image(), "model 'nope' is not found", path="/v2/models/nope/infer", status=404)
    path = "/v2/models/digits/versions/9/infer"
    refused(rig, image(), "model 'digits' has no version '9' (it has: 1)", path=path, status=404)
    refused(rig, b"not JSON either", "no version '9'", path=path, status=404)
    refused(rig, image(parameters={"variant": "tiny"}), "no variant 'tiny'", status=404)


def test_shared_memory_is_501(rig: Rig) -> None:
    shared = {"shared_memory_region": "a", "shared_memory_byte_size": 16}
    refused(rig, tensor(data=None, parameters=shared), "'image': shared memory", status=501)
    refused(rig, image(outputs=[{"name": "sum", "parameters": shared}]), "'sum': shared memory", status=501)


@pytest.mark.parametrize("path", UNSUPPORTED_PATHS)
def test_parts_of_tritons_protocol_that_are_not_served_are_501(rig: Rig, path: str) -> None:
    filled = path.replace("{model}", "digits").replace("{rest:path}", "region/a/status")
    for method in ("GET", "POST"):
        assert rig.request(method, filled).status_code == 501


def test_body_over_the_limit_is_413_as_sent_and_once_expanded() -> None:
    rig = Rig(max_request_bytes=1000)
    refused(rig, b" " * 1001, "larger than the limit of 1000 bytes", status=413)
    bomb = gzip.compress(bytes(10_000_000))[:1000]
    refused(
        rig, bomb, "larger than the limit of 1000 bytes", status=413, headers={"Content_Encoding": "gzip"}
    )


def test_nan_in_json_that_would_hold_up_the_others_is_refused() -> None:
    rig = Rig(max_request_bytes=16 * 1024 * 1024)
    refused(rig, b"[NaN" + b" " * (8 * 1024 * 1024), "send binary tensors instead")


def test_broken_or_unknown_encoding_is_400(rig: Rig) -> None:
    refused(rig, image(), "not valid gzip", headers={"Content_Encoding": "gzip"})
    refused(rig, image(), "expected gzip, deflate or identity, got 'br'", headers={"Content_Encoding": "br"})


def test_bad_timeout_header_is_400(rig: Rig) -> None:
    refused(rig, image(), "X-Request-Timeout-Ms", headers={"X_Request_Timeout_Ms": "soon"})


def test_failures_of_the_chain_keep_their_status() -> None:
    rig = Rig(
        Unavailable("no endpoint left", retry_after_seconds=2.5),
        DeadlineExceeded("too late"),
        RuntimeError("secret"),
    )
    replies = [rig.request("POST", INFER, image()) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [503, 504, 500]
    assert [reply.json()["error"] for reply in replies] == ["no endpoint left", "too late", "internal error"]
    assert replies[0].headers["retry-after"] == "3"


def test_long_values_are_cut_short_in_errors(rig: Rig) -> None:
    reply = rig.request("POST", INFER, tensor(data="a" * 10_000))
    assert len(reply.json()["error"]) < 200
    assert orjson.loads(reply.content)
