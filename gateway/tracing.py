"""Tracing: where a request spends its time, as OpenTelemetry spans: edge > stage > attempt at a backend.

The composition root puts a `Traced` around each stage only when tracing is on; without, no OpenTelemetry
object is touched for a request. Spans have names, numbers and words of the configuration, and never a payload
or the text of an error, which may quote one.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.backends import Backend, Heals
from gateway.chain import Infer, Stage
from gateway.errors import EndpointFailure
from gateway.inference import InferRequest, InferResponse
from gateway.request_id import REQUEST_ID, TRACE_METADATA
from gateway.stages.measured import FAULTS, Measurement, outcome_of

Attributes = Mapping[str, str | int]
_W3C = TraceContextTextMapPropagator()
MAX_STATE_CHARS = 512
"""Of a caller's `tracestate`, which W3C asks to pass on; what is over goes, whole entries of it. Servers have
bounds on headers, which one caller's must not reach."""


class Tracing:
    """Makes spans, and what carries them over the wire.

    Args:
        provider: of the SDK; decides on sampling and sends what was sampled.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("inferway", __version__)

    def request(
        self,
        name: str,
        sent: Iterable[tuple[str, str]],
        attributes: Attributes,
        measurement: Measurement,
        status: Callable[[BaseException | None], Attributes],
    ) -> "RequestSpan":
        """The span of a whole request; the measurement, which must end before it, has its facts.

        Args:
            name: method and route, as the semantic conventions have it.
            sent: the caller's headers or metadata, names in lower case.
            attributes: what is known at the start.
            measurement: of the request.
            status: the protocol's status of an outcome.
        """
        values = [(key, value) for key, value in sent if key in _W3C.fields]
        caller = Context()
        if values:
            states = ",".join(value for key, value in values if key == "tracestate")
            if len(states) > MAX_STATE_CHARS:
                states = states[: MAX_STATE_CHARS + 1].rpartition(",")[0]
            caller = _W3C.extract({**dict(values), "tracestate": states}, caller)
        span = self._tracer.start_span(name, caller, SpanKind.SERVER, attributes)
        return RequestSpan(span, measurement, status)

    def infer(self, name: str, infer: Infer) -> Infer:
        """An Infer with a span around it."""
        return Traced(infer, name, self._tracer)

    def stage(self, name: str, stage: Stage) -> Stage:
        """A stage with a span around it."""
        return lambda call_next: self.infer(name, stage(call_next))

    def attempt(self, pool: Infer) -> Infer:
        """A pool with a span around each attempt, the wait to be joined with others included."""
        return Traced(pool, "attempt", self._tracer, SpanKind.CLIENT, _attempt, _answered)

    def endpoint(self, backend: Backend, *, name: str, kind: str) -> Backend:
        """A backend that tells its name to the attempt's span, and the span to its server.

        Args:
            backend: to be called.
            name: of the endpoint.
            kind: of the backend.
        """
        return _TracedBackend(backend, {"inferway.endpoint": name, "inferway.backend": kind})

    @staticmethod
    def flight() -> Callable[[], None]:
        """Called where a flight or a batch starts; what comes back links who else is in it to this span."""
        leader = get_current_span().get_span_context()
        return lambda: get_current_span().add_link(leader)

    async def aclose(self) -> None:
        """Send what is left, for as long as `trace_export.TIMEOUT_SECONDS`."""
        await asyncio.to_thread(self._provider.shutdown)


class RequestSpan:
    """The span of a request, as a context manager around its measurement."""

    __slots__ = ("_measurement", "_span", "_status", "_token")

    def __init__(
        self,
        span: Span,
        measurement: Measurement,
        status: Callable[[BaseException | None], Attributes],
    ) -> None:
        self._span = span
        self._measurement = measurement
        self._status = status

    def __enter__(self) -> None:
        self._token = attach(set_span_in_context(self._span))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        detach(self._token)
        if self._span.is_recording():
            facts = self._measurement.facts()
            attributes = {f"inferway.{name}": value for name, value in facts.items() if value}
            request_id = {"inferway.request_id": REQUEST_ID.get()}
            self._span.set_attributes({**attributes, **request_id, **self._status(error)})
            _end(self._span, self._measurement.outcome, error)
        else:
            self._span.end()


class Traced:
    """An Infer with a span around it.

    Args:
        call_next: what it wraps.
        name: of the span.
        tracer: makes it.
        kind: `CLIENT` where the gateway calls another server.
        attributes: of a request, known at the start.
        answered: of what became of it. In a batch only the first one's span sees the endpoint called.
    """

    def __init__(
        self,
        call_next: Infer,
        name: str,
        tracer: Tracer,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Callable[[InferRequest], Attributes] | None = None,
        answered: Callable[[InferResponse | BaseException], Attributes] | None = None,
    ) -> None:
        self._call_next = call_next
        self._answered = answered
        self._name = name
        self._tracer = tracer
        self._kind = kind
        self._attributes = attributes

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request; one that is not sampled costs no span."""
        if not get_current_span().get_span_context().trace_flags.sampled:
            return await self._call_next(request)
        span = self._tracer.start_span(
            self._name, kind=self._kind, attributes=self._attributes(request) if self._attributes else None
        )
        token = attach(set_span_in_context(span))
        try:
            response = await self._call_next(request)
        except BaseException as error:
            if self._answered:
                span.set_attributes(self._answered(error))
            _end(span, _outcome(error), error)
            raise
        else:
            if self._answered:
                span.set_attributes(self._answered(response))
            _end(span, "ok", None)
            return response
        finally:
            detach(token)


class _TracedBackend:
    def __init__(self, backend: Backend, attributes: Attributes) -> None:
        self._backend = backend
        self._attributes = attributes
        self.is_ready = backend.is_ready
        self.aclose = backend.aclose
        if isinstance(backend, Heals):
            self.heal = backend.heal

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        span = get_current_span()
        if span.get_span_context().is_valid:  # a warm-up has none
            span.set_attributes(self._attributes)
            carrier: dict[str, str] = {}
            _W3C.inject(carrier)
            TRACE_METADATA.set(tuple(carrier.items()))
        return await self._backend(request)


def add_span(_logger: Any, _method: str, event: Any) -> Any:
    """For structlog: every line of a request has the ids of its trace and of the span at work."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format_trace_id(context.trace_id)
        event["span_id"] = format_span_id(context.span_id)
    return event


def _attempt(request: InferRequest) -> Attributes:
    return {"inferway.attempt": len(request.excluded) + 1, "inferway.model": request.model}


def _answered(outcome: InferResponse | BaseException) -> Attributes:
    if isinstance(outcome, InferResponse):
        return {"inferway.endpoint": outcome.endpoint, "inferway.backend": outcome.backend}
    if isinstance(outcome, EndpointFailure) and outcome.endpoint:
        return {"inferway.endpoint": outcome.endpoint}
    return {}


def _outcome(error: BaseException) -> str:
    """An attempt's outcome names the failure, as the metrics' does; every other is a request's."""
    return type(error).__name__ if isinstance(error, EndpointFailure) else outcome_of(error)


def _end(span: Span, outcome: str, error: BaseException | None) -> None:
    span.set_attribute("inferway.outcome", outcome)
    if isinstance(error, EndpointFailure) or outcome in FAULTS:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(StatusCode.ERROR)
    span.end()
