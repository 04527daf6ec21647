"""The composition root: what a gateway that is built has."""

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from prometheus_client import generate_latest

from gateway.app import build
from gateway.loading import load_settings
from gateway.traffic_settings import RolloutSettings
from tests.grpc_serving import GrpcServing

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "service",
    [
        "",
        "inference.GRPCInferenceService",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "org.pytorch.serve.grpc.inference.InferenceAPIsService",
    ],
)
async def test_health_can_be_asked_of_every_service(service: str) -> None:
    gateway = build(load_settings(ROOT / "inferway.full.yaml", {}), ROOT)
    server = GrpcServing(gateway.front.grpc, gateway.edge)
    async with server, grpc.aio.insecure_channel(server.address) as channel:
        check: Any = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        reply = await check(HealthCheckRequest(service=service))
    assert reply.status == HealthCheckResponse.NOT_SERVING  # nothing is started


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/predictions/cnn_mnist", 405, "MethodNotAllowedException"),
        ("DELETE", "/ping", 405, "MethodNotAllowedException"),
        ("GET", "/models/cnn_mnist/1/more/yet", 404, "ResourceNotFoundException"),
        ("POST", "/v2/health/live", 405, "Method Not Allowed"),
        ("GET", "/v3/nothing", 404, "Not Found"),
    ],
)
async def test_what_is_no_route_is_refused_in_the_form_of_its_protocol(
    method: str, path: str, status: int, said: str
) -> None:
    gateway = build(load_settings(ROOT / "inferway.full.yaml", {}), ROOT)
    transport = httpx.ASGITransport(gateway.http)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        reply = await client.request(method, path)
    body = reply.json()
    assert (reply.status_code, body.get("type", body.get("error"))) == (status, said)


@pytest.mark.parametrize(("configuration", "exposed"), [("inferway.full.yaml", 0.0), ("inferway.yaml", None)])
def test_whether_redis_answers_is_only_told_where_one_is_configured(
    configuration: str, exposed: float | None
) -> None:
    gateway = build(load_settings(ROOT / configuration, {}), ROOT)
    assert gateway.metrics.registry.get_sample_value("gateway_cache_redis_up_ratio") == exposed


@pytest.mark.parametrize(("enabled", "expected"), [("true", True), ("false", False)])
def test_admission_is_there_unless_it_is_turned_off(enabled: str, expected: bool) -> None:
    settings = load_settings(ROOT / "inferway.full.yaml", {"INFERWAY_ADMISSION__ENABLED": enabled})
    metrics = generate_latest(build(settings, ROOT).metrics.registry).decode()
    assert ('gateway_admission_limit_requests{model="cnn_mnist"' in metrics) is expected


@pytest.mark.parametrize(
    "setting",
    [{"INFERWAY_TRACING__OTLP_ENDPOINT": "http://127.0.0.1:1"}, {"INFERWAY_CACHE__MEMORY_BYTES": "0"}],
    ids=["each request is to have its spans", "no memory tier"],
)
async def test_replies_are_not_recalled_where(setting: dict[str, str]) -> None:
    assert build(load_settings(ROOT / "inferway.yaml", {}), ROOT).edge.recall is not None
    gateway = build(load_settings(ROOT / "inferway.yaml", setting), ROOT)
    assert gateway.edge.recall is None
    if gateway.edge.tracing is not None:
        await gateway.edge.tracing.aclose()


def test_of_a_model_whose_default_has_a_canary_no_reply_is_recalled() -> None:
    settings = load_settings(ROOT / "inferway.yaml", {})
    (first, *_) = settings.pools
    canary = RolloutSettings.model_validate({"model": first.model, "canary_variant": "int8", "weight": 0.5})
    gateway = build(settings.model_copy(update={"rollouts": (canary,)}), ROOT)
    recall = gateway.edge.recall
    assert recall is not None
    assert first.model not in recall.models
    assert len(recall.models) == len(gateway.edge.catalog.contracts) - 1
    of_label = canary.model_copy(update={"label": "stable"})
    recall = build(settings.model_copy(update={"rollouts": (of_label,)}), ROOT).edge.recall
    assert recall is not None
    assert first.model in recall.models
