"""TF Serving's REST: predictions that succeed."""

import base64

import pytest

from gateway.inference import split_bytes
from tests.unit.protocols.tfserving_http_rig import IMAGE, NUMBERS, Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_rows_of_the_one_input_come_back_as_rows_of_the_one_output(rig: Rig) -> None:
    reply = await rig.predict("digits", {"instances": [IMAGE, IMAGE]})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.text == '{"predictions":[[0.1,2.0,0.3],[0.1,2.0,0.3]]}'
    (tensor,) = rig.infer.requests[0].inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("image", "FP32", (2, 2, 2))
    assert tensor.numpy()[1].tolist() == IMAGE


async def test_rows_may_name_the_one_input(rig: Rig) -> None:
    reply = await rig.predict("digits", {"instances": [{"image": IMAGE}]})
    assert reply.json() == {"predictions": [[0.1, 2.0, 0.3]]}


async def test_columns_of_the_one_input_come_bare_or_named(rig: Rig) -> None:
    for inputs in ([IMAGE], {"image": [IMAGE]}):
        reply = await rig.predict("digits", {"inputs": inputs})
        assert reply.text == '{"outputs":[[0.1,2.0,0.3]]}'


async def test_rows_of_several_outputs_are_objects(rig: Rig) -> None:
    instances = [{"x": [1, 2], "text": ["a"]}, {"text": [{"b64": "/w=="}], "x": [3, 4]}]
    reply = await rig.predict("pair", {"instances": instances})
    assert reply.text == (
        '{"predictions":['
        '{"double":[2,4],"total":0.1,"raw_bytes":[{"b64":"AP8="}],"text":"plain"},'
        '{"double":[6,8],"total":NaN,"raw_bytes":[{"b64":"AP8="}],"text":{"b64":"/w=="}}]}'
    )
    assert list(split_bytes(rig.infer.requests[0].inputs[1])) == [b"a", b"\xff"]


async def test_columns_of_several_outputs_are_one_object(rig: Rig) -> None:
    content = {"inputs": {"text": [["a"], ["b"], ["c"]], "x": [[1, 2], [3, 4], [5, 6]]}}
    reply = await rig.predict("pair", content)
    assert reply.text == (
        '{"outputs":{"double":[[2,4],[6,8],[10,12]],"total":[0.1,NaN,-Infinity],'
        '"raw_bytes":[[{"b64":"AP8="}],[{"b64":"AP8="}],[{"b64":"AP8="}]],'
        '"text":["plain",{"b64":"/w=="},""]}}'
    )


async def test_a_model_without_a_batch_axis_takes_and_gives_a_scalar_in_columns(rig: Rig) -> None:
    assert (await rig.predict("scalar", {"inputs": 0.1})).text == '{"outputs":0.1}'
    assert (await rig.predict("scalar", b'{"inputs": NaN}')).text == '{"outputs":NaN}'


async def test_base64_alone_is_a_value_and_no_named_input(rig: Rig) -> None:
    encoded = {"b64": base64.b64encode(b"\x00\x01").decode()}
    reply = await rig.predict("bytes", {"instances": [[encoded], ["text"]]})
    assert reply.json() == {"predictions": [["\x00\x01"], ["text"]]}


async def test_nan_and_infinity_tokens_are_taken_and_given(rig: Rig) -> None:
    reply = await rig.predict("fp32", b'{"instances": [[NaN, Infinity, -Infinity, 1, 0.1]]}')
    assert reply.text == '{"predictions":[[NaN,Infinity,-Infinity,1.0,0.1]]}'


@pytest.mark.parametrize("datatype", NUMBERS)
async def test_every_number_comes_back_as_it_was(rig: Rig, datatype: str) -> None:
    values = [0, 1, 100] if not datatype.startswith("FP") else [0.0, 0.1, 1e30]
    reply = await rig.predict(datatype.lower(), {"instances": [values]})
    assert reply.json() == {"predictions": [values]}


async def test_64_bit_integers_lose_no_digit(rig: Rig) -> None:
    largest = [2**63 - 1, -(2**63)]
    assert (await rig.predict("int64", {"instances": [largest]})).json() == {"predictions": [largest]}
    assert (await rig.predict("uint64", {"instances": [[2**64 - 1]]})).json() == {
        "predictions": [[2**64 - 1]]
    }


async def test_booleans_are_true_and_false(rig: Rig) -> None:
    assert (
        await rig.predict("bool", {"instances": [[True, False]]})
    ).text == '{"predictions":[[true,false]]}'


@pytest.mark.parametrize(
    ("place", "version"),
    [("", "2"), ("/versions/1", "1"), ("/versions/010", "10"), ("/versions/0", "2"), ("/labels/stable", "1")],
)
async def test_version_label_or_neither_choose_what_answers(rig: Rig, place: str, version: str) -> None:
    reply = await rig.request("POST", f"/v1/models/digits{place}:predict", {"instances": [IMAGE]})
    assert reply.status_code == 200
    assert rig.infer.requests[0].version == reply.headers["x-inferway-version"] == version


async def test_signature_variant_timeout_and_priority_are_heard(rig: Rig) -> None:
    content = {"signature_name": "serving_default", "instances": [IMAGE]}
    headers = {"x-inferway-variant": "int8", "x-request-timeout-ms": "1000", "x-request-priority": "4"}
    assert (await rig.predict("digits", content, **headers)).status_code == 200
    assert rig.infer.requests[0].priority == 4
    reply = await rig.request("POST", "/v1/models/digits:predict?variant=int8", content)
    assert reply.headers["x-inferway-variant"] == "int8"
    assert [asked.variant for asked in rig.infer.requests] == ["int8", "int8"]
