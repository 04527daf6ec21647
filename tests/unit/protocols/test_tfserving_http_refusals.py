"""TF Serving's REST: predictions that are refused or fail, in the server's words where it has some."""

from typing import Any

import pytest

from gateway.errors import DeadlineExceeded, Unavailable
from tests.unit.protocols.tfserving_http_rig import IMAGE, Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/digits/versions/7:predict", 404, "Servable not found for request: Specific(digits, 7)"),
        ("/v1/models/digits/labels/new:predict", 400, "Unrecognized servable version label: new"),
        (
            "/v1/models/digits/versions/x:predict",
            400,
            "Malformed request: POST /v1/models/digits/versions/x:predict",
        ),
        (
            f"/v1/models/digits/versions/{2**64}:predict",
            400,
            f"Failed to convert version: {2**64} to numeric.",
        ),
        ("/v1/models/digits", 400, "Malformed request: POST /v1/models/digits"),
        ("/v1/models", 400, "Malformed request: POST /v1/models"),
        ("/v1/models/digits:explain", 400, "Malformed request: POST /v1/models/digits:explain"),
        ("/v1/other", 400, "Malformed request: POST /v1/other"),
    ],
)
async def test_what_cannot_be_found_is_said_in_the_servers_words(
    rig: Rig, path: str, status: int, text: str
) -> None:
    reply = await rig.request("POST", path, {"instances": [IMAGE]})
    assert (reply.status_code, reply.json()) == (status, {"error": text})


@pytest.mark.parametrize("verb", ["classify", "regress"])
async def test_other_verbs_are_not_implemented(rig: Rig, verb: str) -> None:
    reply = await rig.request("POST", f"/v1/models/digits:{verb}", {"examples": []})
    assert reply.status_code == 501
    assert ":predict" in reply.json()["error"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = 1", "JSON Parse error: "),
        (b'{"instances": [1', "JSON Parse error: "),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [IMAGE], "inputs": [IMAGE]}, "only one of 'inputs' or 'instances'"),
        ({"instances": IMAGE[0][0]}, "'instances' to be a list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"signature_name": 1, "instances": [IMAGE]}, "'signature_name' key must be a string value."),
        (
            {"signature_name": "x", "instances": [IMAGE]},
            'Serving signature name: "x" not found in signature def',
        ),
        (
            {"instances": [{"picture": IMAGE}]},
            "does not have named input: picture; must only have keys: image",
        ),
        ({"instances": [{"image": IMAGE}, IMAGE]}, "Expecting object but got list at item 1"),
        ({"instances": [IMAGE, {"image": IMAGE}]}, "Expecting value/list but got object at item 1"),
        ({"inputs": {"picture": IMAGE}}, "Missing named input: image in 'inputs' object."),
        ({"inputs": {"image": [IMAGE], "mask": 1}}, "tensor 'mask': expected the inputs ['image']"),
        ({"instances": [[[1.0, 2.0], [3.0]]]}, "tensor 'image': expected lists of 2 at level 2"),
        ({"instances": [[[1.0, 2.0], 3.0]]}, "tensor 'image': expected lists of 2 at level 2"),
        ({"instances": [[1.0, 2.0]]}, "tensor 'image': expected shape [-1, 2, 2], got shape [1, 2]"),
        ({"instances": [IMAGE] * 9}, "tensor 'image': expected a batch of 1 to 8, got a batch of 9"),
        (
            {"instances": [[[1.0, "2"], [3, 4]]]},
            'JSON Value: "2" Type: String is not of expected type: float',
        ),
        (
            {"instances": [[[1.0, None], [3, 4]]]},
            "JSON Value: null Type: Null is not of expected type: float",
        ),
        ({"instances": [[[1.0, True], [3, 4]]]}, "Type: True is not of expected type: float"),
        ({"instances": [[[1.0, [2]], [3, 4]]]}, "Type: Array is not of expected type: float"),
        ({"instances": [[[1.0, {"b64": ""}], [3, 4]]]}, "Type: Object is not of expected type: float"),
        ({"instances": [[[1.0, 1e39], [3, 4]]]}, "1e+39 to float without loss of precision."),
        ({"instances": [[[1.0, 2**24], [3, 4]]]}, "16777216 to float without loss of precision."),
        (b'{"instances": [[[1.0, 1e999], [3, 4]]]}', "JSON Parse error: "),
    ],
)
async def test_a_body_that_does_not_fit_is_a_400_that_says_why(rig: Rig, content: Any, text: str) -> None:
    assert text in await rig.error("digits", content)


@pytest.mark.parametrize(
    ("model", "values", "text"),
    [
        ("int8", [128], "tensor 'x': expected numbers that fit INT8, got 128"),
        ("uint8", [-1], "tensor 'x': expected numbers that fit UINT8, got -1"),
        ("int64", [1.0], "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        ("bool", [1], "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("bytes", [1], "JSON Value: 1 Type: Number is not of expected type: string"),
        ("bytes", [{"b64": "!"}], "tensor 'x': expected base64 in \"b64\", got Unable to base64 decode"),
        ("fp64", [2**53], "9007199254740992 to double without loss of precision."),
    ],
)
async def test_a_value_that_its_datatype_cannot_hold_is_refused(
    rig: Rig, model: str, values: list[Any], text: str
) -> None:
    assert text in await rig.error(model, {"instances": [values]})


async def test_a_datatype_that_json_has_no_form_for_is_not_implemented(rig: Rig) -> None:
    assert "FP16" in await rig.error("fp16", {"instances": [[1.0]]}, status=501)


async def test_several_inputs_must_be_named(rig: Rig) -> None:
    assert "expecting list of objects" in await rig.error("pair", {"instances": [[1, 2]]})
    assert "expecting an object" in await rig.error("pair", {"inputs": [[1, 2]]})
    missing = await rig.error("pair", {"instances": [{"x": [1, 2]}]})
    assert missing == "Failed to process element: 0 of 'instances' list. must only have keys: text,x"


async def test_failures_of_the_chain_have_the_servers_codes() -> None:
    rig = Rig(Unavailable("no endpoint", retry_after_seconds=2.0), DeadlineExceeded("late"))
    reply = await rig.predict("digits", {"instances": [IMAGE]})
    assert (reply.status_code, reply.json(), reply.headers["retry-after"]) == (
        503,
        {"error": "no endpoint"},
        "2",
    )
    assert (await rig.predict("digits", {"instances": [IMAGE]})).status_code == 504
