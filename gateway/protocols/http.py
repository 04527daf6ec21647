"""One HTTP call as the REST edges see it: bounded body, deadline, measurement, errors in the caller's form.

The routes are plain ASGI: an edge is a set of functions from `HttpCall` to `HttpReply`, and all that their
protocols have in common is here.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qs

import structlog
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.caching.recall import Recall
from gateway.errors import InferwayError, MalformedBody
from gateway.protocols.at_once import in_task
from gateway.protocols.edge import NO_SPAN, PRIORITY, STICKY, VARIANT, Edge, in_thread, priority
from gateway.protocols.http_body import WHOLE_BODY, read_body, whole_body
from gateway.protocols.http_coding import expand
from gateway.protocols.http_reply import HttpReply, coded, send_reply
from gateway.protocols.http_wire import wire_form
from gateway.protocols.problems import failure_headers, http_status
from gateway.request_id import HEADER, bind_request_id
from gateway.stages.measured import Measurement

BODY_SECONDS = 120.0
"""How long a body may take, whatever deadline its caller asks for: who sends slowly is not waited for."""
_REQUEST_ID = HEADER.encode()
_VARIANT, _STICKY, _PRIORITY = VARIANT.encode(), STICKY.encode(), PRIORITY.encode()
_W3C = (b"traceparent", b"tracestate")
_log = structlog.get_logger()


class HttpCall(NamedTuple):
    """A request whose body is there, expanded and within the limit.

    Attributes:
        path: the route's parameters.
        headers: names in lower case; the last of several wins.
        query: the query string.
        body: the whole body.
        measurement: to be told the model.
        timeout_seconds: what `X-Request-Timeout-Ms` asked for.
        arrived: when its headers were there, by the edge's clock.
    """

    path: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    query: bytes
    body: bytes
    measurement: Measurement
    timeout_seconds: float | None
    arrived: float

    def header(self, name: bytes) -> str:
        """A header's value; empty when it was not sent."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""

    @property
    def variant(self) -> str:
        """The variant that the query asks for by `?variant=`, else the header; empty when neither does."""
        if b"variant=" in self.query:  # parsing costs, and hardly a request has a query
            asked = parse_qs(self.query.decode("latin-1")).get("variant")
            if asked:
                return asked[0]
        return self.header(_VARIANT)

    @property
    def sticky(self) -> str:
        """What keeps the caller on one side of a canary; empty when it sent nothing."""
        return self.header(_STICKY)

    @property
    def priority(self) -> int:
        """What the header `X-Request-Priority` asks for; 0 without one."""
        return priority({}, self.header(_PRIORITY))


Handler = Callable[[HttpCall], Awaitable[HttpReply]]


class HttpEndpoint:
    """The ASGI app of one route.

    Args:
        handler: what makes the reply.
        edge: the gateway.
        protocol: label of the metrics, e.g. `oip_http`.
        error_body: the protocol's way to put an error.
        measures: whether the call counts as an inference (health and metadata do not).
        is_open: whether it needs no API key, where others do; then it has no body either.
        route: its path, for the name of the span.
    """

    def __init__(
        self,
        handler: Handler,
        edge: Edge,
        *,
        protocol: str,
        error_body: Callable[[Exception], bytes],
        measures: bool = True,
        is_open: bool = False,
        route: str = "",
    ) -> None:
        self._handler = handler
        self._edge = edge
        self._protocol = protocol
        self._error_body = error_body
        self.measures = measures
        self._route = route
        self._is_open = is_open
        self._access = None if is_open else edge.access
        self.__doc__ = handler.__doc__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        request_id = bind_request_id(headers.get(_REQUEST_ID, b"").decode("latin-1"))
        measurement = self._edge.measured.start(self._protocol)
        try:
            if self.measures:
                with self._span(scope, measurement), measurement:
                    reply = await self._reply(scope, headers, receive, measurement)
            else:
                reply = await self._reply(scope, headers, receive, measurement)
        except InferwayError as error:
            reply = self._problem(error)
        except Exception as error:  # noqa: BLE001 - the last line of defence: a caller gets an answer
            if not self.measures:  # else the measurement has said it
                _log.exception("request_failed", protocol=self._protocol, route=self._route)
            reply = self._problem(error)
        await send_reply(scope, send, reply, request_id)

    def _span(self, scope: Scope, measurement: Measurement) -> AbstractContextManager[None]:
        tracing = self._edge.tracing
        if tracing is None:
            return NO_SPAN
        method = scope["method"]
        sent = (
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name in _W3C
        )
        attributes = {HTTP_REQUEST_METHOD: method, HTTP_ROUTE: self._route}
        return tracing.request(f"{method} {self._route}", sent, attributes, measurement, _status_attribute)

    async def _reply(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, measurement: Measurement
    ) -> HttpReply:
        edge = self._edge
        arrived = edge.clock()
        path = scope.get("path_params", {})
        model = path.get("model", "")
        measurement.asks(model, path.get("version", ""))
        if self._access is not None:  # before the body is read, and before the caller is told to send it
            await self._access.admit(
                headers.get(b"authorization", b"").decode("latin-1"),
                headers.get(b"x-api-key", b"").decode("latin-1"),
                model=model if self.measures else "",
            )
        timeout_seconds = _timeout_seconds(headers)
        if self._is_open:
            body = b""  # what a stranger sends there is no use, and is not kept
        elif WHOLE_BODY in scope and b"content-encoding" not in headers:
            body = whole_body(scope, edge.max_request_bytes)
        else:
            await in_task()
            deadline = min(edge.deadline(model, timeout_seconds, arrived=arrived), arrived + BODY_SECONDS)
            body = await edge.by(deadline, self._body(scope, receive, headers), "the body was complete")
        call = HttpCall(path, headers, scope["query_string"], body, measurement, timeout_seconds, arrived)
        recall = edge.recall
        if recall is not None and self.measures and model in recall.models:
            reply = await self._recalled(call, recall)
        else:
            await in_task()
            reply = await self._handler(call)
        accept = headers.get(b"accept-encoding")
        return reply if accept is None else await coded(reply, accept.decode("latin-1"))

    async def _recalled(self, call: HttpCall, recall: Recall[HttpReply]) -> HttpReply:
        """What these very bytes were answered with before, else what the handler makes of them."""
        wire = wire_form(self._route, call.path, call.headers, call.query, call.body)
        known = None if wire is None else await recall.find(wire)
        if known is not None:
            call.measurement.answered(known.response)
            return known.reply
        await in_task()
        reply = await self._handler(call)
        response = call.measurement.response
        if wire is not None and response is not None and recall.takes(response):
            reply = reply.with_lines()
            recall.keep(wire, response, reply, len(reply.body) + wire.held_bytes)
        return reply

    async def _body(self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
        """The body, expanded if it is compressed."""
        limit = self._edge.max_request_bytes
        body = await read_body(scope, receive, headers, limit)
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if encoding in {"", "identity"}:
            return body
        # 64 KiB that expand to 64 MiB take 300 ms, in which the event loop would answer nobody else.
        return await in_thread(self._edge.expanding, partial(expand, body, encoding, limit))

    def _problem(self, error: Exception) -> HttpReply:
        return HttpReply(self._error_body(error), http_status(error), headers=failure_headers(error))


class Routes:
    """Collects one protocol's routes.

    Args:
        edge: the gateway.
        protocol: label of the metrics.
        error_body: the protocol's way to put an error.
    """

    def __init__(self, edge: Edge, protocol: str, error_body: Callable[[Exception], bytes]) -> None:
        self._edge = edge
        self._protocol = protocol
        self._error_body = error_body
        self.routes: list[Route] = []

    def add(
        self, method: str, path: str, handler: Handler, *, measures: bool = False, is_open: bool = False
    ) -> None:
        """One route; `measures` for those that infer, `is_open` for those that never need an API key."""
        endpoint = HttpEndpoint(
            handler,
            self._edge,
            protocol=self._protocol,
            error_body=self._error_body,
            measures=measures,
            is_open=is_open,
            route=path,
        )
        self.routes.append(Route(path, endpoint, methods=method.split(",")))


def identify(scope: Scope) -> None:
    """Bind the request's id, the caller's if it sent one."""
    sent = ""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID:
            sent = value.decode("latin-1")
    bind_request_id(sent)


def _status_attribute(error: BaseException | None) -> dict[str, int]:
    if error is not None and not isinstance(error, Exception):
        return {}  # cancelled: nobody was answered
    return {HTTP_RESPONSE_STATUS_CODE: http_status(error) if error else 200}


def _timeout_seconds(headers: Mapping[bytes, bytes]) -> float | None:
    value = headers.get(b"x-request-timeout-ms")
    if value is None:
        return None
    try:
        milliseconds = float(value)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds < float("inf"):
        text = value.decode("latin-1")
        raise MalformedBody(f"X-Request-Timeout-Ms: expected a positive number of milliseconds, got '{text}'")
    return milliseconds / 1000
