"""The stack of docker-compose.yml in a real engine: it answers, and loses parts without a failed request."""

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest

from gateway.configuration import load
from gateway.contract import Contract
from services.protocol.torchserve_pb2 import PredictionResponse, PredictionsRequest
from tests.docker.stack import Stack, inside
from tests.docker.under_load import CONNECTIONS
from tests.load import distinct_images, drive
from tests.serving import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

MODELS = ROOT / "models"
NAMES = sorted(path.parent.name for path in MODELS.glob("*/model.yaml"))
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
OURS = ("gateway", "torchserve", "triton-1", "triton-2", "tfserving")
SOON = 60.0


def example(model: str) -> bytes:
    contract = load(Contract, MODELS / model / "model.yaml")
    return (MODELS / model / contract.example).read_bytes()


def label(answer: bytes) -> str:
    """The likeliest label, or the name of the one number."""
    found: dict[str, float] = json.loads(answer)
    return max(found, key=found.__getitem__)


def over_rest(stack: Stack, model: str) -> tuple[str, http.client.HTTPMessage]:
    request = urllib.request.Request(f"http://{stack.http}/predictions/{model}", example(model), method="PUT")
    with urllib.request.urlopen(request, timeout=SOON) as reply:  # noqa: S310 - http only
        return label(reply.read()), reply.headers


def over_grpc(stack: Stack, model: str) -> str:
    with grpc.insecure_channel(stack.grpc) as channel:
        call = channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        reply = call(PredictionsRequest(model_name=model, input={"data": example(model)}), timeout=SOON)
    return label(reply.prediction)


def requests_of(container: Any) -> float:
    """How many requests a gateway has answered."""
    page = inside(container, "http://127.0.0.1:8082/metrics").splitlines()
    count = "gateway_request_duration_seconds_count"
    return sum(float(line.split()[-1]) for line in page if line.startswith(count))


@pytest.mark.parametrize("model", NAMES)
def test_every_model_answers_over_rest_and_grpc_alike(stack: Stack, model: str) -> None:
    found, headers = over_rest(stack, model)
    assert over_grpc(stack, model) == found
    assert headers["x-inferway-backend"] in {"torchserve", "triton", "tfserving"}


def test_the_edge_spreads_requests_over_the_gateways_and_they_over_the_engines(stack: Stack) -> None:
    gateways = stack.containers("gateway")
    before = [requests_of(gateway) for gateway in gateways]
    outcome = asyncio.run(drive(stack.http, distinct_images(400, seed=1), connections=CONNECTIONS))
    assert outcome.failed == {}
    assert set(outcome.backends) == {"torchserve", "triton", "tfserving"}
    shares = [requests_of(gateway) - old for gateway, old in zip(gateways, before, strict=True)]
    assert len(shares) == 2
    assert min(shares) > 40


def test_calls_of_one_grpc_connection_go_to_both_gateways(stack: Stack) -> None:
    gateways = stack.containers("gateway")
    before = [requests_of(gateway) for gateway in gateways]
    payload = PredictionsRequest(model_name="diamonds", input={"data": example("diamonds")})
    with grpc.insecure_channel(stack.grpc) as channel:
        call = channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        for under_way in [call.future(payload, timeout=SOON) for _ in range(40)]:
            under_way.result()
    assert all(requests_of(gateway) > old for gateway, old in zip(gateways, before, strict=True))


def test_everything_is_locked_up(stack: Stack) -> None:
    for container in stack.client.containers.list(all=True):
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"], container.name
        assert host["CapDrop"] == ["ALL"], container.name
        assert "no-new-privileges:true" in host["SecurityOpt"], container.name
        assert host["Memory"] > 0, container.name
        assert host["NanoCpus"] > 0, container.name
        assert container.attrs["Config"]["User"].split(":")[0] not in {"", "0"}, container.name


def test_no_container_of_ours_can_write_to_its_file_system(stack: Stack) -> None:
    for service in OURS:
        for container in stack.containers(service):
            assert container.exec_run(["touch", "/opt/written"]).exit_code != 0
            assert container.exec_run(["touch", "/models/written"]).exit_code != 0


def test_nothing_reports_to_its_maker(stack: Stack) -> None:
    for service in ("gateway", "triton-1"):
        (container, *_) = stack.containers(service)
        kept = container.exec_run(["sh", "-c", "find $HOME -name onnxruntime.db"])
        assert (kept.exit_code, kept.output) == (0, b""), service


def test_the_password_is_in_no_argument_and_no_environment(stack: Stack) -> None:
    gateway, redis = stack.containers("gateway")[0], stack.containers("redis")[0]
    password = gateway.exec_run(["cat", "/run/secrets/redis_password"]).output.decode()
    assert len(password) == 48
    for container in (gateway, redis):
        assert password not in json.dumps(container.attrs)
    assert redis.exec_run(["redis-cli", "ping"]).output.startswith(b"NOAUTH")


def test_redis_is_used(stack: Stack) -> None:
    over_rest(stack, "cnn_mnist")
    assert "gateway_cache_redis_up_ratio 1.0" in inside(
        stack.containers("gateway")[0], "http://127.0.0.1:8082/metrics"
    )


def test_only_the_edge_and_the_pages_are_published_and_only_on_the_loopback_interface(stack: Stack) -> None:
    published = {}
    for container in stack.client.containers.list():
        bindings = [binding for each in container.ports.values() for binding in each or ()]
        if bindings:
            service = container.labels["com.docker.compose.service"]
            published[service] = {binding["HostIp"] for binding in bindings}
    assert published == {name: {"127.0.0.1"} for name in ("haproxy", "prometheus", "alertmanager")}
    for container in stack.containers("gateway"):
        assert not container.attrs["NetworkSettings"]["Networks"].keys() & {"inferway-test_front"}


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/livez"])
def test_the_edge_does_not_lead_to_the_admin_port(stack: Stack, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{stack.http}{path}", timeout=SOON)
    refused.value.close()
    assert refused.value.code == 404


def test_prometheus_finds_every_gateway_and_engine(stack: Stack) -> None:
    url = f"http://{stack.prometheus}/api/v1/query?query=sum(up)by(job)"
    wanted = {"gateway": "2", "torchserve": "1", "triton": "2"}
    give_up = time.monotonic() + SOON
    found: dict[str, str] = {}
    while time.monotonic() < give_up and not wanted.items() <= found.items():
        time.sleep(0.5)
        with urllib.request.urlopen(url, timeout=SOON) as reply:
            result = json.loads(reply.read())["data"]["result"]
        found = {sample["metric"]["job"]: sample["value"][1] for sample in result}
    assert wanted.items() <= found.items()
