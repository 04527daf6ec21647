"""OIP REST: what the server says about itself and its models."""

from typing import Any

import pytest

from gateway import __version__
from tests.unit.protocols.oip_http_rig import DATATYPES, Rig, image


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("path", "up", "down"),
    [
        ("health/live", {"live": True}, {"live": True}),
        ("health/ready", {"live": True, "ready": True}, {"live": True, "ready": False}),
        ("models/digits/ready", {"name": "digits", "ready": True}, {"name": "digits", "ready": False}),
        (
            "models/digits/versions/1/ready",
            {"name": "digits", "ready": True},
            {"name": "digits", "ready": False},
        ),
    ],
)
def test_health_is_a_status_and_the_specifications_object(path: str, up: Any, down: Any) -> None:
    for is_up, content in ((True, up), (False, down)):
        reply = Rig(ready=is_up).request("GET", f"/v2/{path}")
        assert (reply.status_code, reply.json()) == (200 if content == up else 400, content)
        assert reply.headers["content-type"] == "application/json"


def test_the_server_is_found_with_a_slash_at_the_end_too(rig: Rig) -> None:
    assert rig.request("GET", "/v2/").json() == rig.request("GET", "/v2").json()


def test_server_metadata_lists_only_extensions_that_work(rig: Rig) -> None:
    assert rig.request("GET", "/v2").json() == {
        "name": "inferway",
        "version": __version__,
        "extensions": [
            "classification", "model_configuration", "binary_tensor_data", "parameters", "statistics",
        ],
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/1"])
def test_model_metadata_has_a_batch_axis_of_any_size(rig: Rig, path: str) -> None:
    assert rig.request("GET", path).json() == {
        "name": "digits",
        "versions": ["1"],
        "platform": "inferway",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 2]}],
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "sum", "datatype": "FP32", "shape": [-1, 1]},
        ],
    }


def test_model_without_a_batch_axis_shows_none(rig: Rig) -> None:
    assert rig.request("GET", "/v2/models/single").json()["inputs"][0]["shape"] == [1]


def test_config_has_shapes_without_the_batch_axis(rig: Rig) -> None:
    config = rig.request("GET", "/v2/models/digits/versions/1/config").json()
    assert config["max_batch_size"] == 8
    assert config["input"] == [
        {"name": "image", "data_type": "TYPE_FP32", "dims": [2, 2], "format": "FORMAT_NONE"}
    ]
    assert config["version_policy"] == {"specific": {"versions": [1]}}
    text = rig.request("GET", "/v2/models/single/config").json()["input"][0]
    assert text["data_type"] == "TYPE_STRING"


@pytest.mark.parametrize("tail", ["", "/ready", "/config", "/stats"])
def test_unknown_model_or_version_is_404(rig: Rig, tail: str) -> None:
    for path in ("/v2/models/nope", "/v2/models/digits/versions/9"):
        reply = rig.request("GET", path + tail)
        assert reply.status_code == 404
        assert "error" in reply.json()


def test_index_lists_every_version_and_its_state(rig: Rig) -> None:
    index = rig.request("POST", "/v2/repository/index").json()
    assert len(index) == len(DATATYPES) + 5
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in index
    unready = Rig(ready=False)
    assert unready.request("POST", "/v2/repository/index", {}).json()[0]["state"] == "UNAVAILABLE"
    assert unready.request("POST", "/v2/repository/index", {"ready": True}).json() == []
    assert rig.request("POST", "/v2/repository/index", {"ready": 7}).status_code == 400
    assert rig.request("POST", "/v2/repository/index", [1]).status_code == 400


def test_statistics_tell_requests_from_inferences(rig: Rig) -> None:
    for _ in range(3):
        rig.request("POST", "/v2/models/digits/infer", image())
    rig.request("POST", "/v2/models/digits/versions/1/infer", b"")
    rig.request("POST", "/v2/models/digits/infer", b"")
    attempts = rig.edge.measured.metrics.attempts
    attempts.labels("digits", "1", "fp32", "triton", "ok").observe(0.5)
    attempts.labels("digits", "1", "int8", "tfserving", "ok").observe(0.25)
    attempts.labels("digits", "1", "fp32", "triton", "unavailable").observe(9)
    [stats] = rig.request("GET", "/v2/models/digits/versions/1/stats").json()["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"], stats["execution_count"]) == (
        "digits", "1", 2, 2,
    )  # fmt: skip
    parts = stats["inference_stats"]
    assert parts["success"]["count"] == 3
    assert parts["success"]["ns"] > 0
    assert parts["fail"]["count"] == 2
    assert parts["compute_infer"] == {"count": 2, "ns": 750_000_000}
    # perf_analyzer finds the version that it measured by the count of `queue`, cache hits included.
    assert parts["queue"] == {"count": 3, "ns": 0}
    assert parts["compute_input"] == parts["compute_output"] == {"count": 2, "ns": 0}
    assert parts["cache_hit"]["count"] == 1
    assert parts["cache_miss"]["count"] == 2


def test_statistics_without_a_model_are_of_all(rig: Rig) -> None:
    stats = rig.request("GET", "/v2/models/stats").json()["model_stats"]
    assert len(stats) == len(DATATYPES) + 5
    assert all(entry["inference_count"] == 0 for entry in stats)
    assert len(rig.request("GET", "/v2/models/digits/stats").json()["model_stats"]) == 1
