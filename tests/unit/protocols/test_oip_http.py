"""OIP REST: calls that succeed, from the body's bytes to the reply's."""

import gzip
import zlib

import numpy as np
import orjson
import pytest

from gateway.inference import Tensor
from tests.unit.protocols.oip_http_rig import DATATYPES, Rig, header_and, image, split


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_reply_has_tritons_keys_in_tritons_order(rig: Rig) -> None:
    reply = rig.request("POST", "/v2/models/digits/infer", image(id="42"))
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.text == (
        '{"id":"42","model_name":"digits","model_version":"1","outputs":['
        '{"name":"scores","datatype":"FP32","shape":[1,3],"data":[0.25,3.5,1.0]},'
        '{"name":"sum","datatype":"FP32","shape":[1,1],"data":[4.75]}]}'
    )
    assert reply.headers["x-inferway-variant"] == "fp32"
    assert reply.headers["x-inferway-backend"] == "fake"


def test_version_in_the_path_is_asked_for(rig: Rig) -> None:
    assert rig.request("POST", "/v2/models/digits/versions/1/infer", image()).status_code == 200
    assert rig.infer.requests[0].version == "1"


@pytest.mark.parametrize("datatype", DATATYPES)
def test_numbers_survive_json_both_ways(rig: Rig, datatype: str) -> None:
    values = [0, 1, 7] if not datatype.startswith("FP") else [0.0, 0.1, 7.5]
    assert rig.infer_x(datatype, values).json()["outputs"][0]["data"] == values


def test_largest_integers_survive_json(rig: Rig) -> None:
    assert rig.infer_x("UINT64", [2**64 - 1, 1]).json()["outputs"][0]["data"] == [2**64 - 1, 1]
    assert rig.infer_x("INT64", [-(2**63), 2**63 - 1]).json()["outputs"][0]["data"] == [-(2**63), 2**63 - 1]


def test_fp32_is_printed_in_its_shortest_form(rig: Rig) -> None:
    assert '"data":[0.1,3.0]' in rig.infer_x("FP32", [0.1, 3]).text


def test_booleans_and_text_survive_json(rig: Rig) -> None:
    assert rig.infer_x("BOOL", [True, False]).json()["outputs"][0]["data"] == [True, False]
    assert rig.infer_x("BYTES", ["a", "", "é"]).json()["outputs"][0]["data"] == ["a", "", "é"]


def test_nested_data_is_row_major(rig: Rig) -> None:
    assert rig.infer_x("INT32", [[[1], [2]], [[3], [4]]], size=4).json()["outputs"][0]["data"] == [1, 2, 3, 4]


def test_nan_and_infinity_tokens_are_taken_and_given(rig: Rig) -> None:
    tokens = b'{"id":"Inf","inputs":[{"name":"x","shape":[1,6],"datatype":"FP32",'
    tokens += b'"data":[NaN,1,Infinity,-Infinity,Inf,-Inf]}]}'
    reply = rig.request("POST", "/v2/models/fp32/infer", tokens)
    assert '"data":[NaN,1.0,Infinity,-Infinity,Infinity,-Infinity]' in reply.text
    assert reply.text.startswith('{"id":"Inf"')


def test_binary_input_reaches_the_chain_as_it_was_sent(rig: Rig) -> None:
    raw = np.array([1, 2, 3, 4], "<f4").tobytes()
    entry = {"name": "image", "shape": [1, 2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    body, headers = header_and({"inputs": [entry]}, raw)
    reply = rig.request("POST", "/v2/models/digits/infer", body, **headers)
    assert reply.headers["content-type"] == "application/json"
    assert bytes(rig.infer.requests[0].inputs[0].data) == raw


def test_binary_is_chosen_for_each_output(rig: Rig) -> None:
    wanted = [{"name": "sum", "parameters": {"binary_data": True}}, {"name": "scores"}]
    content, binary = split(rig.request("POST", "/v2/models/digits/infer", image(outputs=wanted)))
    assert content["outputs"][0] == {
        "name": "sum", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4},
    }  # fmt: skip
    assert content["outputs"][1]["data"] == [0.25, 3.5, 1.0]
    assert binary == np.array([4.75], "<f4").tobytes()


def test_binary_data_output_is_the_default_of_every_output(rig: Rig) -> None:
    asked = image(parameters={"binary_data_output": True})
    content, binary = split(rig.request("POST", "/v2/models/digits/infer", asked))
    assert [output["parameters"]["binary_data_size"] for output in content["outputs"]] == [12, 4]
    assert len(binary) == 16
    asked["outputs"] = [{"name": "scores"}, {"name": "sum", "parameters": {"binary_data": False}}]
    content, binary = split(rig.request("POST", "/v2/models/digits/infer", asked))
    assert content["outputs"][1]["data"] == [4.75]
    assert len(binary) == 12


def test_binary_fp16_passes_through(rig: Rig) -> None:
    raw = np.array([1, 2], "<f2").tobytes()
    entry = {"name": "x", "shape": [1, 2], "datatype": "FP16", "parameters": {"binary_data_size": 4}}
    body, headers = header_and({"inputs": [entry], "parameters": {"binary_data_output": True}}, raw)
    assert split(rig.request("POST", "/v2/models/fp16/infer", body, **headers))[1] == raw


def test_body_without_header_length_is_json_whatever_its_content_type(rig: Rig) -> None:
    body = orjson.dumps(image())
    for content_type in ("application/octet-stream", "application/x-www-form-urlencoded", ""):
        reply = rig.request("POST", "/v2/models/digits/infer", body, Content_Type=content_type)
        assert reply.status_code == 200


def test_header_length_0_is_one_raw_input_of_batch_1_and_answered_in_binary(rig: Rig) -> None:
    raw = np.array([1, 2, 3, 4], "<f4").tobytes()
    reply = rig.request("POST", "/v2/models/digits/infer", raw, Inference_Header_Content_Length="0")
    assert rig.infer.requests[0].inputs[0].shape == (1, 2, 2)
    assert len(split(reply)[1]) == 16
    rig.request("POST", "/v2/models/int16/infer", b"123456", Inference_Header_Content_Length="0")
    assert rig.infer.requests[1].inputs[0].shape == (1, 3)


def test_raw_bytes_input_is_one_element(rig: Rig) -> None:
    reply = rig.request("POST", "/v2/models/single/infer", b"hello", Inference_Header_Content_Length="0")
    assert reply.status_code == 200
    assert rig.infer.requests[0].inputs[0] == Tensor.of_bytes("text", (1,), [b"hello"])


def test_outputs_asked_for_twice_are_given_once(rig: Rig) -> None:
    reply = rig.request("POST", "/v2/models/digits/infer", image(outputs=[{"name": "sum"}, {"name": "sum"}]))
    assert [output["name"] for output in reply.json()["outputs"]] == ["sum"]


def test_gateway_keeps_its_own_parameters_and_the_backend_gets_the_rest(rig: Rig) -> None:
    parameters = {"timeout": 9_000_000, "priority": 1, "variant": "int8", "sequence_id": 7, "gain": 0.5}
    rig.request("POST", "/v2/models/digits/infer", image(parameters=parameters))
    assert rig.infer.requests[0].parameters == {"sequence_id": 7, "gain": 0.5}
    assert rig.infer.requests[0].variant == "int8"


def test_a_priority_is_the_bodys_parameter_else_the_headers_and_part_of_no_key(rig: Rig) -> None:
    path = "/v2/models/digits/infer"
    rig.request("POST", path, image())
    rig.request("POST", path, image(), X_Request_Priority="2")
    rig.request("POST", path, image(parameters={"priority": 1}), X_Request_Priority="2")
    assert [asked.priority for asked in rig.infer.requests] == [0, 2, 1]
    assert len({asked.key for asked in rig.infer.requests}) == 1
    reply = rig.request("POST", path, image(), X_Request_Priority="high")
    assert reply.status_code == 400


def test_a_variant_is_the_bodys_parameter_else_the_querys_else_the_headers(rig: Rig) -> None:
    path = "/v2/models/digits/infer"
    rig.request("POST", path, image(), X_Inferway_Variant="int8")
    rig.request("POST", f"{path}?variant=int8", image(), X_Inferway_Variant="fp32")
    rig.request("POST", f"{path}?variant=fp32", image(parameters={"variant": "int8"}))
    assert [asked.variant for asked in rig.infer.requests] == ["int8"] * 3


@pytest.mark.parametrize(
    ("parameters", "headers", "seconds"),
    [
        ({}, {}, 10.0),
        ({"timeout": 0}, {}, 10.0),
        ({"timeout": 2_000_000}, {}, 2.0),
        ({}, {"X_Request_Timeout_Ms": "1500"}, 1.5),
        ({"timeout": 2_000_000}, {"X_Request_Timeout_Ms": "1500"}, 1.5),
        ({"timeout": 1_000_000}, {"X_Request_Timeout_Ms": "1500"}, 1.0),
    ],
)
def test_deadline_is_the_earlier_of_parameter_and_header(
    parameters: dict[str, int], headers: dict[str, str], seconds: float
) -> None:
    rig = Rig(clock=lambda: 100.0)
    rig.request("POST", "/v2/models/digits/infer", image(parameters=parameters), **headers)
    assert rig.infer.requests[0].deadline == 100.0 + seconds


def test_unknown_keys_and_nulls_are_ignored(rig: Rig) -> None:
    body = image(id=None, outputs=None, parameters=None, extra={"a": [1]})
    body["inputs"][0] |= {"note": 1, "parameters": {"content_type": "np"}}
    assert rig.request("POST", "/v2/models/digits/infer", body).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_body_is_expanded(rig: Rig, coding: str) -> None:
    plain = orjson.dumps(image())
    body = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)
    assert rig.request("POST", "/v2/models/digits/infer", body, Content_Encoding=coding).status_code == 200


def test_the_whole_range_of_a_large_json_image_is_kept() -> None:
    rig = Rig(max_request_bytes=8 * 1024 * 1024)
    values = np.random.default_rng(0).random(150_528).astype("<f4")
    body = orjson.dumps(
        {"inputs": [{"name": "x", "shape": [1, values.size], "datatype": "FP32", "data": values}]},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    reply = rig.request("POST", "/v2/models/fp32/infer", body)
    assert bytes(rig.infer.requests[0].inputs[0].data) == values.tobytes()
    assert np.array_equal(np.array(reply.json()["outputs"][0]["data"], "<f4"), values)
