"""Which requests may share an answer, and which must not: measured by the attempts at a backend."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.sharing_clients import CLIENTS, post
from tests.fakes import a_version
from tests.serving import StartedGateway, heldout, running_gateway, running_redis

ATTEMPTS = "gateway_attempt_duration_seconds_count"
SIX = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def write_scaler(folder: Path, factors: dict[str, float], default_version: str) -> Path:
    """A model `scaler`: x FP32 [r, c] to `scaled` (x times its version's factor) and `sums` (of its rows)."""
    folder.mkdir(parents=True)
    versions = {}
    for version, factor in factors.items():
        graph = helper.make_graph(
            [
                helper.make_node("Mul", ["x", "factor"], ["scaled"]),
                helper.make_node("ReduceSum", ["scaled", "axes"], ["sums"], keepdims=0),
            ],
            "scaler",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["r", "c"])],
            [
                helper.make_tensor_value_info("scaled", TensorProto.FLOAT, ["r", "c"]),
                helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["r"]),
            ],
            [
                numpy_helper.from_array(np.array(factor, np.float32), "factor"),
                numpy_helper.from_array(np.array([1], np.int64), "axes"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        data: bytes = model.SerializeToString()
        onnx.checker.check_model(model)
        file = folder / "repository" / "scaler" / version / "model.onnx"
        file.parent.mkdir(parents=True)
        file.write_bytes(data)
        versions[version] = a_version("fp32", sha256=hashlib.sha256(data).hexdigest())
    contract = {
        "name": "scaler",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}],
        "outputs": [
            {"name": "scaled", "datatype": "FP32", "shape": [-1, -1]},
            {"name": "sums", "datatype": "FP32", "shape": [-1]},
        ],
        "default_version": default_version,
        "versions": versions,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(contract))
    return folder


def settings(model: Path, redis_port: int = 0) -> dict[str, Any]:
    """A gateway of a model that `write_scaler` wrote, with the embedded engine."""
    url = f"redis://127.0.0.1:{redis_port}/0"
    redis = (
        {"redis": {"url": url, "timeout_seconds": 5.0}} if redis_port else {}
    )  # a busy machine is not a loss
    return {
        "models": [str(model)],
        "endpoints": {"embedded": {"backend": "onnxruntime", "repository": str(model / "repository")}},
        "pools": [{"model": "scaler", "endpoints": ["embedded"]}],
        "cache": redis,
    }


@pytest.fixture(scope="module")
def scaler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    folder = tmp_path_factory.mktemp("scaler")
    model = write_scaler(folder / "scaler", {"1": 2.0, "2": 10.0}, "1")
    with running_gateway(folder / "gateway", settings(model)) as gateway:
        yield gateway


def ask(gateway: StartedGateway, version: str = "", **changes: Any) -> tuple[str, dict[str, Any]]:
    """The cache tier of an answer of `scaler`, and its content; `changes` are those of the OIP body."""
    shape = changes.pop("shape", [2, 3])
    datatype = changes.pop("datatype", "FP32")
    values = changes.pop("values", SIX)
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "data": values}
    path = f"/v2/models/scaler{f'/versions/{version}' if version else ''}/infer"
    headers, body = post(gateway, path, json.dumps({"inputs": [tensor], **changes}).encode(), {})
    return headers["x-inferway-cache"], json.loads(body)


def outputs(content: dict[str, Any]) -> dict[str, list[float]]:
    """The values by the output's name, in the order in which they came."""
    return {output["name"]: output["data"] for output in content["outputs"]}


def test_requests_that_differ_in_one_thing_that_counts_share_no_answer(scaler: StartedGateway) -> None:
    twice = [2 * value for value in SIX]
    differ: list[tuple[dict[str, Any], dict[str, list[float]]]] = [
        ({}, {"scaled": twice, "sums": [12, 30]}),
        ({"shape": [3, 2]}, {"scaled": twice, "sums": [6, 14, 22]}),
        ({"shape": [1, 6]}, {"scaled": twice, "sums": [42]}),
        ({"outputs": [{"name": "sums"}]}, {"sums": [12, 30]}),
        ({"outputs": [{"name": "scaled"}]}, {"scaled": twice}),
        ({"outputs": [{"name": "sums"}, {"name": "scaled"}]}, {"sums": [12, 30], "scaled": twice}),
        ({"parameters": {"gain": 1}}, {"scaled": twice, "sums": [12, 30]}),
        ({"parameters": {"gain": 1.0}}, {"scaled": twice, "sums": [12, 30]}),
        ({"parameters": {"gain": "1"}}, {"scaled": twice, "sums": [12, 30]}),
        ({"parameters": {"gain": True}}, {"scaled": twice, "sums": [12, 30]}),
        ({"version": "2"}, {"scaled": [10 * value for value in SIX], "sums": [60, 150]}),
    ]
    before = scaler.metric(ATTEMPTS)
    for expected_tier in ("miss", "memory"):  # each one is kept, and each under a key of its own
        for changes, expected in differ:
            tier, content = ask(scaler, **changes)
            assert (tier, list(outputs(content).items())) == (expected_tier, list(expected.items())), changes
    assert scaler.metric(ATTEMPTS) == before + len(differ)


def test_the_same_bytes_as_another_datatype_get_no_cached_answer(scaler: StartedGateway) -> None:
    ask(scaler, values=[0] * 6)
    with pytest.raises(OSError, match="400"):
        ask(scaler, values=[0] * 6, datatype="INT32")


def test_what_only_the_gateway_acts_on_is_no_difference(scaler: StartedGateway) -> None:
    values = [value + 0.5 for value in SIX]
    before = scaler.metric(ATTEMPTS)
    same: list[dict[str, Any]] = [
        {"id": "a"},
        {"id": "b"},
        {},
        {"version": "1"},
        {"parameters": {"timeout": 5_000_000, "priority": 2, "variant": "fp32"}},
    ]
    answers = [ask(scaler, values=values, **changes) for changes in same]
    assert [tier for tier, _ in answers] == ["miss", *["memory"] * (len(same) - 1)]
    assert [content.get("id") for _, content in answers] == ["a", "b", None, None, None]
    assert scaler.metric(ATTEMPTS) == before + 1


def test_every_protocol_shares_one_answer_and_says_where_it_came_from(
    embedded_gateway: StartedGateway,
) -> None:
    image = heldout()[0][400:401]
    before = embedded_gateway.metric(ATTEMPTS)
    said = {name: client(embedded_gateway, image) for name, client in CLIENTS.items()}
    assert embedded_gateway.metric(ATTEMPTS) == before + 1
    first = next(iter(said.values()))
    for name, reply in said.items():
        np.testing.assert_allclose(reply.values, first.values, rtol=1e-6, err_msg=name)
        assert reply.facts == {
            "x-inferway-cache": "miss" if reply is first else "memory",
            "x-inferway-variant": "fp32",
            "x-inferway-version": "1",
            "x-inferway-backend": "onnxruntime",
        }, name


def test_twenty_identical_requests_in_flight_over_every_protocol_cost_one_attempt(
    embedded_gateway: StartedGateway,
) -> None:
    image = heldout()[0][401:402]
    clients = (list(CLIENTS.values()) * 3)[:20]
    together = threading.Barrier(len(clients))
    before = embedded_gateway.metric(ATTEMPTS)

    def send(client: Any) -> Any:
        together.wait()
        return client(embedded_gateway, image)

    with ThreadPoolExecutor(len(clients)) as pool:
        said = list(pool.map(send, clients))
    assert embedded_gateway.metric(ATTEMPTS) == before + 1
    assert Counter(reply.facts["x-inferway-cache"] for reply in said)["miss"] == 1
    for reply in said:
        np.testing.assert_allclose(reply.values, said[0].values, rtol=1e-6)


def test_a_new_version_or_new_weights_are_never_answered_from_the_old_ones_cache(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis") as (_, port):
        seen = []
        for name, factors, default in (
            ("first", {"1": 2.0, "2": 10.0}, "1"),
            ("new_default", {"1": 2.0, "2": 10.0}, "2"),
            ("new_weights", {"1": 3.0, "2": 10.0}, "1"),
        ):
            model = write_scaler(tmp_path / name / "scaler", factors, default)
            with running_gateway(tmp_path / name, settings(model, redis_port=port)) as gateway:
                for version in ("", "1"):
                    tier, content = ask(gateway, version)
                    seen.append((name, tier, content["model_version"], outputs(content)["scaled"][0]))
    assert seen == [
        ("first", "miss", "1", 2.0),
        ("first", "memory", "1", 2.0),
        ("new_default", "miss", "2", 10.0),
        ("new_default", "redis", "1", 2.0),
        ("new_weights", "miss", "1", 3.0),
        ("new_weights", "memory", "1", 3.0),
    ]
