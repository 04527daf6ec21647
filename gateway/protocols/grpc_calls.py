"""One gRPC call as the gRPC edges see it: measurement, deadline, errors as status codes.

The servicers of every protocol are sets of functions from a message to a message; what they have in common
is here. They are registered by path, so that our messages, whose packages are `inferway.*`, serve the
services' real names.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from functools import partial
from typing import Any

import grpc
import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from gateway.errors import InferwayError, MalformedBody, Unsupported
from gateway.protocols.edge import NO_SPAN, Edge
from gateway.protocols.grpc_wire import wire_form
from gateway.protocols.problems import GRPC_STATUS, error_code, error_text, grpc_trailers
from gateway.request_id import HEADER, REQUEST_ID, bind_request_id
from gateway.stages.measured import Measurement

_log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Measurement, Context], Awaitable[Any]]
"""From the request's message, the measurement to be told the model, and the context, to the reply."""


def call_timeout_seconds(context: Context) -> float | None:
    """What is left of the caller's gRPC deadline; None when it set none."""
    left = context.time_remaining()
    return None if left is None or left == math.inf else left


def metadata_of(context: Context) -> dict[str, str]:
    """The caller's metadata, names in lower case; the last of several wins."""
    metadata: Any = context.invocation_metadata() or ()
    return dict(metadata)


def identify(metadata: Any) -> None:
    """Bind the call's id, the caller's if its metadata have one."""
    sent = ""
    for name, value in metadata or ():
        if name == HEADER:
            sent = value
    bind_request_id(sent)


def request_span(
    edge: Edge, method: str, context: Context, measurement: Measurement
) -> AbstractContextManager[None]:
    """The span of a call, or of one request of a stream; nothing while tracing is off.

    Args:
        edge: the gateway.
        method: with its service, as the caller named them.
        context: of the call.
        measurement: of the request; must end before the span does.
    """
    if edge.tracing is None:
        return NO_SPAN
    metadata: Any = context.invocation_metadata() or ()
    attributes = {"rpc.system.name": "grpc", "rpc.method": method}
    return edge.tracing.request(method, metadata, attributes, measurement, _status_attribute)


def _status_attribute(error: BaseException | None) -> dict[str, str]:
    status = grpc.StatusCode.OK if error is None else grpc.StatusCode.CANCELLED
    if isinstance(error, Exception):
        status = GRPC_STATUS[error_code(error)]
    return {"rpc.response.status_code": status.name}


class Methods:
    """Collects the methods of one service.

    Args:
        edge: the gateway.
        service: its full name, as clients call it.
        protocol: label of the metrics, e.g. `oip_grpc`.
    """

    def __init__(self, edge: Edge, service: str, protocol: str) -> None:
        self._edge = edge
        self._service = service
        self._protocol = protocol
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def unary(
        self, name: str, request: Any, handler: Handler, *, measures: bool = False, recalls: bool = False
    ) -> None:
        """One unary method; `request` is its message class; `measures` for those that infer.

        `recalls` for those whose answer depends on the message and the variant alone: where labels may move
        it depends on more.
        """
        path = f"{self._service}/{name}"
        answer = partial(self._recalled, path) if recalls else _answer

        async def call(data: bytes, context: Context) -> Any:
            identify(context.invocation_metadata())
            measurement = self._edge.measured.start(self._protocol)
            try:
                if not measures:
                    reply = await handler(parsed(request, data), measurement, context)
                else:
                    with request_span(self._edge, path, context, measurement), measurement:
                        reply = await answer(request, data, handler, measurement, context)
            except Exception as error:  # noqa: BLE001 - as above
                await self._fail(context, name, error, is_logged=measures)
            else:
                context.set_trailing_metadata((*context.trailing_metadata(), (HEADER, REQUEST_ID.get())))
                return reply

        self._methods[name] = grpc.unary_unary_rpc_method_handler(call, response_serializer=_serialize)

    async def _recalled(
        self,
        path: str,
        request: Any,
        data: bytes,
        handler: Handler,
        measurement: Measurement,
        context: Context,
    ) -> Any:
        """What these very bytes were answered with before, else what the handler makes; serialised."""
        recall, access = self._edge.recall, self._edge.access
        wire = None if recall is None else wire_form(path, metadata_of(context), data)
        if recall is None or wire is None:
            return await _answer(request, data, handler, measurement, context)
        model = recall.model(wire)
        if model is not None:
            measurement.asks(model)
            if access is not None:
                access.check_model(model)
            known = await recall.find(wire)
            if known is not None:
                measurement.answered(known.response)
                return known.reply
        reply = _serialize(await _answer(request, data, handler, measurement, context))
        response = measurement.response
        if response is not None and recall.takes(response):
            recall.keep(wire, response, reply, len(reply) + wire.held_bytes)
        return reply

    def stream(
        self,
        name: str,
        request: Any,
        handler: Callable[[AsyncIterator[Any], Context], AsyncGenerator[Any, None]],
    ) -> None:
        """One method with a stream of requests and a stream of replies."""

        async def call(frames: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            identify(context.invocation_metadata())
            context.set_trailing_metadata(((HEADER, REQUEST_ID.get()),))
            messages = (parsed(request, data) async for data in frames)
            try:
                async with aclosing(handler(messages, context)) as replies:
                    async for reply in replies:
                        yield reply
            except Exception as error:  # noqa: BLE001 - as above
                await self._fail(context, name, error)

        self._methods[name] = grpc.stream_stream_rpc_method_handler(call, response_serializer=_serialize)

    def unsupported(self, text: str, *names: str) -> None:
        """Methods that Inferway does not serve, of any kind: UNIMPLEMENTED, with a text that says so."""

        async def refuse(_: Empty, _measurement: Measurement, _context: Context) -> Empty:
            raise Unsupported(text)

        for name in names:
            self.unary(name, Empty, refuse)

    async def _fail(self, context: Context, name: str, error: Exception, *, is_logged: bool = False) -> None:
        """End a call with the status of a failure, its headers in the trailers; log what was not expected."""
        if not isinstance(error, InferwayError) and not is_logged:
            _log.error("request_failed", protocol=self._protocol, method=name, exc_info=error)
        context.set_trailing_metadata((*grpc_trailers(error).items(), (HEADER, REQUEST_ID.get())))
        try:
            await context.abort(GRPC_STATUS[error_code(error)], error_text(error))
        except grpc.aio.AbortError as aborted:
            # gRPC keeps it, and raises it again once the handler is done. With its traceback it would hold
            # the frames, and they the context: a cycle that keeps a message of perhaps 64 MiB, which the
            # garbage collector, who counts objects and not bytes, is in no hurry to find.
            aborted.__traceback__ = aborted.__context__ = None

    def handler(self) -> grpc.GenericRpcHandler:
        """What `grpc.aio.Server.add_generic_rpc_handlers` takes."""
        return grpc.method_handlers_generic_handler(self._service, self._methods)


def parsed(kind: Any, data: bytes) -> Any:
    """A message of the class `kind`; what is none is the caller's fault (to gRPC it would be UNKNOWN)."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MalformedBody(f"the message is no {kind.DESCRIPTOR.name}: {error}") from error


async def _answer(
    request: Any, data: bytes, handler: Handler, measurement: Measurement, context: Context
) -> Any:
    return await handler(parsed(request, data), measurement, context)


def _serialize(message: Any) -> bytes:
    data: bytes = message if isinstance(message, bytes) else message.SerializeToString()
    return data
