"""An OpenTelemetry collector of a few lines: its gRPC service, which keeps what it is sent."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector(TraceServiceServicer):
    """What came.

    Attributes:
        endpoint: what `tracing.otlp_endpoint` is to be.
        spans: of every batch.
        resources: the attributes of every batch.
        metadata: of the last batch.
    """

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[Mapping[str, Any]] = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        self.metadata = dict(context.invocation_metadata())
        for batch in request.resource_spans:
            self.resources.append(values(batch.resource.attributes))
            for scope in batch.scope_spans:
                self.spans.extend(scope.spans)
        return ExportTraceServiceResponse()

    def of(self, trace: str) -> list[Span]:
        """The spans of a trace that has no forks, from the outermost to the innermost."""
        spans = {span.span_id: span for span in self.spans if span.trace_id.hex() == trace}
        ordered = [span for span in spans.values() if span.parent_span_id not in spans]
        assert len(ordered) == 1, [span.name for span in ordered]
        while inner := [span for span in spans.values() if span.parent_span_id == ordered[-1].span_id]:
            assert len(inner) == 1
            ordered += inner
        assert len(ordered) == len(spans)
        return ordered


def values(attributes: Any) -> dict[str, Any]:
    """OTLP's attributes as a mapping."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting(credentials: grpc.ServerCredentials | None = None) -> Iterator[Collector]:
    """A collector on a free port; with `credentials` over TLS, as `localhost`."""
    server = grpc.server(ThreadPoolExecutor(2))
    collector = Collector()
    if credentials is None:
        collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        collector.endpoint = f"https://localhost:{server.add_secure_port('localhost:0', credentials)}"
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
