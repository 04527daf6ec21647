"""Export: off without an endpoint; in the clear or over TLS by its scheme; headers from the environment."""

from pathlib import Path

import grpc
import pytest
from pydantic import ValidationError

from gateway.app import build
from gateway.loading import load_settings
from gateway.settings import TracingSettings
from gateway.stages.resolved import Resolved
from gateway.trace_export import exported
from gateway.tracing import Traced
from tests.certificates import Authority
from tests.collector import collecting
from tests.fakes import FakeInfer, a_request, fake_edge

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("over_tls", [False, True])
async def test_spans_get_there_with_the_headers_of_the_environment(
    over_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token")
    credentials = None
    if over_tls:
        files = Authority(tmp_path).issue("collector")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(files.ca))
        credentials = grpc.ssl_server_credentials([(files.key.read_bytes(), files.certificate.read_bytes())])
    with collecting(credentials) as collector:
        tracing = exported(TracingSettings(otlp_endpoint=collector.endpoint, sample_ratio=1))
        assert tracing is not None
        measurement = fake_edge(FakeInfer()).measured.start("oip_http")
        with tracing.request("outer", (), {}, measurement, lambda _: {}), measurement:
            await tracing.infer("inner", FakeInfer())(a_request())
        await tracing.aclose()
        assert [span.name for span in collector.spans] == ["inner", "outer"]
        assert collector.metadata["authorization"] == "Bearer token"
        assert {resource["service.name"] for resource in collector.resources} == {"inferway-gateway"}


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:4317", "ftp://h:1", "http://", "http://h:0", "http://h:x", "http://h:4318/v1/traces"],
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="expected http://host:port or https://host:port"):
        TracingSettings(otlp_endpoint=endpoint)


def test_without_an_endpoint_no_stage_has_a_span_around_it() -> None:
    gateway = build(load_settings(ROOT / "inferway.yaml", {}), ROOT)
    assert gateway.edge.tracing is None
    assert isinstance(gateway.edge.infer, Resolved)


async def test_with_one_the_chain_begins_with_a_span() -> None:
    with collecting() as collector:
        settings = load_settings(
            ROOT / "inferway.yaml", {"INFERWAY_TRACING__OTLP_ENDPOINT": collector.endpoint}
        )
        gateway = build(settings, ROOT)
        assert gateway.edge.tracing is not None
        assert isinstance(gateway.edge.infer, Traced)
        await gateway.edge.tracing.aclose()
