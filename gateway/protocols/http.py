"""One HTTP call as the REST edges see it: bounded body, deadline, measurement, errors in the caller's form.

The routes are plain ASGI: an edge is a set of functions from `HttpCall` to `HttpReply`, and all that their
protocols have in common is here.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import parse_qs

import structlog
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.errors import InferwayError, MalformedBody
from gateway.inference import InferResponse
from gateway.protocols.edge import Edge, in_thread, reply_facts
from gateway.protocols.http_body import WHOLE_BODY, read_body
from gateway.protocols.http_coding import compress, expand, reply_coding
from gateway.protocols.problems import failure_headers, http_status
from gateway.stages.measured import Measurement

JSON = b"application/json"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Status, body and headers (names in lower case; content-length is added)."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpCall:
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
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def variant(self) -> str:
        """The variant that the query asks for by `?variant=`, else the header; empty when neither does."""
        if b"variant=" in self.query:  # parsing costs, and hardly a request has a query
            asked = parse_qs(self.query.decode("latin-1")).get("variant")
            if asked:
                return asked[0]
        return self.header(b"x-inferway-variant")


Handler = Callable[[HttpCall], Awaitable[HttpReply]]


def answer(response: InferResponse, body: bytes, content_type: bytes = JSON) -> HttpReply:
    """A 200 whose headers say which cache, variant, version and backend answered."""
    return HttpReply(body, content_type=content_type, headers=reply_facts(response))


class HttpEndpoint:
    """The ASGI app of one route.

    Args:
        handler: what makes the reply.
        edge: the gateway.
        protocol: label of the metrics, e.g. `oip_http`.
        error_body: the protocol's way to put an error.
        measures: whether the call counts as an inference (health and metadata do not).
    """

    def __init__(
        self,
        handler: Handler,
        edge: Edge,
        *,
        protocol: str,
        error_body: Callable[[Exception], bytes],
        measures: bool = True,
    ) -> None:
        self._handler = handler
        self._edge = edge
        self._protocol = protocol
        self._error_body = error_body
        self._measures = measures
        self.__doc__ = handler.__doc__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        measurement = self._edge.measured.start(self._protocol)
        try:
            if self._measures:
                with measurement:
                    reply = await self._reply(scope, receive, measurement)
            else:
                reply = await self._reply(scope, receive, measurement)
        except InferwayError as error:
            reply = self._problem(error)
        except Exception as error:  # noqa: BLE001 - the last line of defence: a caller gets an answer
            _log.exception("request_failed", protocol=self._protocol, path=scope["path"])
            reply = self._problem(error)
        await _send(send, reply)

    async def _reply(self, scope: Scope, receive: Receive, measurement: Measurement) -> HttpReply:
        edge = self._edge
        arrived = edge.clock()
        headers = dict(scope["headers"])
        path = scope.get("path_params", {})
        model = path.get("model", "")
        measurement.asks(model, path.get("version", ""))
        timeout_seconds = _timeout_seconds(headers)
        deadline = edge.deadline(model, timeout_seconds, arrived=arrived)
        reading = self._body(receive, headers)
        if WHOLE_BODY in scope and b"content-encoding" not in headers:
            body = await reading  # nothing to wait for: a timer would cost more than all else here
        else:
            body = await edge.by(deadline, reading, "the body was complete")
        call = HttpCall(path, headers, scope["query_string"], body, measurement, timeout_seconds, arrived)
        return await _coded(await self._handler(call), call.header(b"accept-encoding"))

    async def _body(self, receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
        """The body, expanded if it is compressed."""
        limit = self._edge.max_request_bytes
        body = await read_body(receive, headers, limit)
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

    def add(self, method: str, path: str, handler: Handler, *, measures: bool = False) -> None:
        """One route; `measures` for those that infer."""
        endpoint = HttpEndpoint(
            handler, self._edge, protocol=self._protocol, error_body=self._error_body, measures=measures
        )
        self.routes.append(Route(path, endpoint, methods=method.split(",")))


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


async def _coded(reply: HttpReply, accept: str) -> HttpReply:
    """The reply, compressed if the caller accepts that."""
    coding = reply_coding(accept, len(reply.body))
    if not coding:
        return reply
    headers = {**reply.headers, "content-encoding": coding, "vary": "accept-encoding"}
    return replace(reply, body=await compress(reply.body, coding), headers=headers)


async def _send(send: Send, reply: HttpReply) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *((name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
