"""TF Serving's REST: status and metadata of models."""

from typing import Any

import pytest

from tests.unit.protocols.tfserving_http_rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


def version_status(version: str) -> dict[str, Any]:
    status = {"error_code": "OK", "error_message": ""}
    return {"version": version, "state": "AVAILABLE", "status": status}


async def test_status_lists_every_version_the_newest_first(rig: Rig) -> None:
    reply = await rig.request("GET", "/v1/models/digits")
    versions = [version_status(version) for version in ("10", "2", "1")]
    assert reply.json() == {"model_version_status": versions}


@pytest.mark.parametrize("place", ["/versions/1", "/labels/stable"])
async def test_status_of_one_version_is_that_one(rig: Rig, place: str) -> None:
    reply = await rig.request("GET", f"/v1/models/digits{place}")
    assert reply.json() == {"model_version_status": [version_status("1")]}


async def test_a_version_without_an_endpoint_is_loading() -> None:
    reply = await Rig(ready=False).request("GET", "/v1/models/digits/versions/1")
    (status,) = reply.json()["model_version_status"]
    assert (status["state"], status["status"]["error_code"]) == ("LOADING", "UNAVAILABLE")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/none", 404, "Could not find any versions of model none"),
        ("/v1/models/digits/versions/7", 404, "Could not find version 7 of model digits"),
        ("/v1/models/digits/labels/new", 400, "Unrecognized servable version label: new"),
        ("/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/digits:predict", 400, "Malformed request: GET /v1/models/digits:predict"),
    ],
)
async def test_status_of_what_is_not_there_is_refused(rig: Rig, path: str, status: int, text: str) -> None:
    reply = await rig.request("GET", path)
    assert (reply.status_code, reply.json()) == (status, {"error": text})


async def test_metadata_is_the_contract_as_a_signature(rig: Rig) -> None:
    reply = await rig.request("GET", "/v1/models/digits/labels/stable/metadata")
    assert reply.json()["model_spec"] == {"name": "digits", "signature_name": "", "version": "1"}
    signature = reply.json()["metadata"]["signature_def"]["signature_def"]["serving_default"]
    sizes = [{"size": size, "name": ""} for size in ("-1", "2", "2")]
    assert signature["inputs"] == {
        "image": {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": sizes, "unknown_rank": False},
            "name": "image:0",
        }
    }
    assert signature["outputs"]["scores"]["dtype"] == "DT_FLOAT"
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["defaults"] == {}
