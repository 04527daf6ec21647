"""One HTTP call as the REST edges see it: bounded body, deadline, measurement, errors in the caller's form.

The routes are plain ASGI: an edge is a set of functions from `HttpCall` to `HttpReply`, and all that their
protocols have in common is here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.errors import BodyTooLarge, InferwayError, MalformedBody
from gateway.inference import InferResponse
from gateway.protocols.edge import Edge, reply_facts
from gateway.protocols.http_coding import compress, expand, reply_coding
from gateway.protocols.problems import failure_headers, http_status
from gateway.stages.measured import Measurement

JSON = b"application/json"
WHOLE_BODY = "inferway.whole_body"
"""What a scope holds if its request's body was there, to its end, when the request started."""
DRAIN_FACTOR = 4
"""A body over the limit is read and thrown away up to this multiple of it, so that a caller who looks at the
reply only after it has sent everything gets the 413 and not a broken connection."""
DRAIN_SECONDS = 10.0
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
        async with self._edge.expanding:
            # Some 64 KiB of zeros take 300 ms, in which the event loop would answer nobody else.
            return await asyncio.to_thread(expand, body, encoding, limit)

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


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The body as it was sent.

    Raises:
        BodyTooLarge: over `limit` bytes.
        MalformedBody: the caller left in the middle.
    """
    length = headers.get(b"content-length", b"0")
    size_bytes = int(length) if length.isdigit() and int(length) > limit else 0
    chunks: list[bytes] = []
    more = True
    while more and size_bytes <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedBody("the caller closed the connection before the body was complete")
        chunk = message.get("body", b"")
        size_bytes += len(chunk)
        chunks.append(chunk)
        more = message.get("more_body", False)
    if size_bytes > limit:
        # With nothing left a server would wait here for the caller to leave; and a caller that asked whether
        # to send its body (RFC 9110, 10.1.1) would be told to by the first look at it.
        if more and (chunks or b"expect" not in headers):
            await _drain(receive, limit)
        raise BodyTooLarge(limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _drain(receive: Receive, limit: int) -> None:
    left = limit * DRAIN_FACTOR
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        _log.info("body_not_drained", limit_bytes=limit)


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
