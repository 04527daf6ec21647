"""One gRPC call as the gRPC edges see it: measurement, deadline, errors as status codes.

The servicers of every protocol are sets of functions from a message to a message; what they have in common
is here. They are registered by path, so that our messages, whose packages are `inferway.*`, serve the
services' real names.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from functools import partial
from typing import Any

import grpc
import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from gateway.errors import InferwayError, MalformedBody, Unsupported
from gateway.protocols.at_once import in_task
from gateway.protocols.edge import NO_SPAN, Edge
from gateway.protocols.grpc_methods import Context, Failed, Method
from gateway.protocols.grpc_wire import wire_form
from gateway.protocols.problems import GRPC_STATUS, error_code, error_text, grpc_trailers
from gateway.request_id import HEADER, REQUEST_ID, bind_request_id
from gateway.stages.measured import Measurement

_log = structlog.get_logger()

Handler = Callable[[Any, Measurement, Context], Awaitable[Any]]
"""From the request's message, the measurement to be told the model, and the context, to the reply."""


def identify(metadata: Mapping[str, str]) -> None:
    """Bind the call's id, the caller's if its metadata have one."""
    bind_request_id(metadata.get(HEADER, ""))


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
    attributes = {"rpc.system.name": "grpc", "rpc.method": method}
    return edge.tracing.request(method, context.metadata.items(), attributes, measurement, _status_attribute)


def _status_attribute(error: BaseException | None) -> dict[str, str]:
    status = grpc.StatusCode.OK if error is None else grpc.StatusCode.CANCELLED
    if isinstance(error, Exception):
        status = GRPC_STATUS[error_code(error)]
    return {"rpc.response.status_code": status.name}


class Service:
    """Collects the methods of one service.

    Args:
        edge: the gateway.
        service: its full name, as clients call it.
        protocol: label of the metrics, e.g. `oip_grpc`.

    Attributes:
        methods: by their paths.
    """

    def __init__(self, edge: Edge, service: str, protocol: str) -> None:
        self._edge = edge
        self._service = service
        self._protocol = protocol
        self.methods: dict[str, Method] = {}

    def unary(
        self, name: str, request: Any, handler: Handler, *, measures: bool = False, recalls: bool = False
    ) -> None:
        """One unary method; `request` is its message class; `measures` for those that infer.

        `recalls` for those whose answer depends on the message and the variant alone: where labels may move
        it depends on more.
        """
        path = f"{self._service}/{name}"
        answer = partial(self._recalled, path) if recalls else _answer

        async def call(data: bytes, context: Context) -> bytes:
            identify(context.metadata)
            measurement = self._edge.measured.start(self._protocol, context.arrived)
            try:
                if not measures:
                    reply = await _answer(request, data, handler, measurement, context)
                else:
                    with request_span(self._edge, path, context, measurement), measurement:
                        reply = await answer(request, data, handler, measurement, context)
            except Exception as error:  # noqa: BLE001 - as above
                raise self._failed(name, error, is_logged=measures) from None
            context.trailers.append((HEADER, REQUEST_ID.get()))
            return reply

        self.methods[f"/{path}"] = Method(call)

    async def _recalled(
        self,
        path: str,
        request: Any,
        data: bytes,
        handler: Handler,
        measurement: Measurement,
        context: Context,
    ) -> bytes:
        """What these very bytes were answered with before, else what the handler makes; serialised."""
        recall, access = self._edge.recall, self._edge.access
        wire = None if recall is None else wire_form(path, context.metadata, data)
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
                found: bytes = known.reply
                return found
        reply = await _answer(request, data, handler, measurement, context)
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

        async def call(frames: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
            identify(context.metadata)
            context.trailers.append((HEADER, REQUEST_ID.get()))
            messages = (parsed(request, data) async for data in frames)
            try:
                async with aclosing(handler(messages, context)) as replies:
                    async for reply in replies:
                        yield reply.SerializeToString()
            except Exception as error:  # noqa: BLE001 - as above
                raise self._failed(name, error) from None

        self.methods[f"/{self._service}/{name}"] = Method(call, is_streamed=True)

    def unsupported(self, text: str, *names: str) -> None:
        """Methods that Inferway does not serve, of any kind: UNIMPLEMENTED, with a text that says so."""

        async def refuse(_: Empty, _measurement: Measurement, _context: Context) -> Empty:
            raise Unsupported(text)

        for name in names:
            self.unary(name, Empty, refuse)

    def _failed(self, name: str, error: Exception, *, is_logged: bool = False) -> Failed:
        """A failure as the caller is to see it; what was not expected is logged."""
        if not isinstance(error, InferwayError) and not is_logged:
            _log.error("request_failed", protocol=self._protocol, method=name, exc_info=error)
        return failed(error, (HEADER, REQUEST_ID.get()))


def failed(error: Exception, *trailers: tuple[str, str]) -> Failed:
    """A failure with its status, its words, its headers as trailers, and these."""
    return Failed(
        GRPC_STATUS[error_code(error)], error_text(error), (*grpc_trailers(error).items(), *trailers)
    )


def parsed(kind: Any, data: bytes) -> Any:
    """A message of the class `kind`; what is none is the caller's fault (to gRPC it would be UNKNOWN)."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MalformedBody(f"the message is no {kind.DESCRIPTOR.name}: {error}") from error


async def _answer(
    request: Any, data: bytes, handler: Handler, measurement: Measurement, context: Context
) -> bytes:
    await in_task()
    reply = await handler(parsed(request, data), measurement, context)
    serialised: bytes = reply.SerializeToString()
    return serialised
