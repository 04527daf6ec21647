"""Where spans go: to a collector over OTLP (gRPC), in batches, from a thread of their own."""

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from gateway import __version__
from gateway.settings import TracingSettings
from gateway.tracing import Tracing

TIMEOUT_SECONDS = 5.0
"""How long one batch may take; also how long a collector that does not answer delays the end."""


def exported(settings: TracingSettings) -> Tracing | None:
    """Tracing as the settings have it; None when it is off.

    What the SDK itself reads from the environment (`OTEL_EXPORTER_OTLP_HEADERS`,
    `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`) holds.
    """
    if not settings.otlp_endpoint:
        return None
    exporter = OTLPSpanExporter(
        endpoint=settings.otlp_endpoint,
        insecure=settings.otlp_endpoint.startswith("http://"),
        timeout=TIMEOUT_SECONDS,
    )
    resource = Resource.create({"service.name": settings.service_name, "service.version": __version__})
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
        resource=resource,
        shutdown_on_exit=False,  # the gateway does, once its listeners are closed
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)
