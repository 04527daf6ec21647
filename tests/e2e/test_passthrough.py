"""A team's own archive, without a contract: what TorchServe itself would give, and nothing cached."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from services.launch import Running, free_port
from services.protocol import torchserve_pb2 as ts
from services.torchserve.run import Ports, launch
from tests.serving import VENVS, StartedGateway, running_gateway

pytestmark = pytest.mark.engine

HANDLER = """
import json
import os

calls = 0


def handle(data, context):
    global calls
    if data is None:
        return None
    calls += 1
    rows = [row.get("data") or row.get("body") for row in data]
    return [json.dumps({"bytes": len(row), "sum": sum(row), "call": [os.getpid(), calls]}) for row in rows]
"""
PAYLOAD = bytes(range(256)) * 3
GRPC = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


@dataclass(frozen=True, slots=True)
class Pair:
    """The gateway, and the TorchServe behind it: host:port of its REST."""

    gateway: StartedGateway
    torchserve: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("passthrough")
    (folder / "team_handler.py").write_text(HANDLER)
    (folder / "store").mkdir()
    archiver = [str(VENVS / "torchserve" / "bin" / "torch-model-archiver"), "--model-name", "team"]
    options = ["--version", "2.5", "--handler", "team_handler.py", "--export-path", "store"]
    subprocess.run([*archiver, *options], cwd=folder, check=True)
    ports = Ports(free_port(), free_port(), free_port(), free_port(), free_port())
    start = launch(
        store=folder / "store", models=["team"], run_dir=folder, venv=VENVS / "torchserve", ports=ports
    )
    endpoint = {
        "backend": "torchserve",
        "address": f"127.0.0.1:{ports.grpc}",
        "management_address": f"127.0.0.1:{ports.management_grpc}",
    }
    settings = {
        "models": [],
        "pools": [],
        "endpoints": {"torchserve": endpoint},
        "passthrough": [{"model": "team", "endpoints": ["torchserve"]}],
    }
    with Running(start), running_gateway(folder / "gateway", settings) as gateway:
        yield Pair(gateway, f"127.0.0.1:{ports.rest}")


def _put(url: str) -> dict[str, Any]:
    request = urllib.request.Request(url, PAYLOAD, method="PUT")  # noqa: S310 - http only
    request.add_header("content-type", "application/octet-stream")
    with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310
        answer: dict[str, Any] = json.loads(reply.read())
        return answer


@pytest.mark.parametrize("path", ["/predictions/team", "/predictions/team/2.5"])
def test_the_bytes_reach_the_handler_and_its_answer_comes_back(pair: Pair, path: str) -> None:
    own = _put(f"http://{pair.torchserve}{path}")
    ours = _put(f"http://{pair.gateway.http}{path}")
    assert (ours["bytes"], ours["sum"]) == (own["bytes"], own["sum"]) == (len(PAYLOAD), sum(PAYLOAD))


def test_equal_requests_are_answered_anew(pair: Pair) -> None:
    url = f"http://{pair.gateway.http}/predictions/team"
    assert _put(url)["call"] != _put(url)["call"]
    assert pair.gateway.metric("gateway_cache_lookups_total") == 0


def test_grpc_passes_through_too(pair: Pair) -> None:
    with grpc.insecure_channel(pair.gateway.grpc) as channel:
        predictions = channel.unary_unary(
            GRPC,
            request_serializer=ts.PredictionsRequest.SerializeToString,
            response_deserializer=ts.PredictionResponse.FromString,
        )
        reply = predictions(ts.PredictionsRequest(model_name="team", input={"data": PAYLOAD}))
    assert json.loads(reply.prediction)["sum"] == sum(PAYLOAD)


@pytest.mark.parametrize("version", ["7", "2.5%0d%0ax-evil:%201", "%E6%97%A5"])
def test_a_version_that_there_is_not_is_torchserves_404(pair: Pair, version: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        _put(f"http://{pair.gateway.http}/predictions/team/{version}")
    with caught.value as refused:
        assert refused.code == 404
        assert "x-evil" not in refused.headers
        assert json.loads(refused.read())["type"] == "ModelVersionNotFoundException"
