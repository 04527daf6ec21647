"""From a call that came over HTTP/2 to the method that answers it, and back."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

import structlog
from grpc import StatusCode

from gateway.errors import BodyTooLarge, InferwayError
from gateway.http2.call import CallFailed
from gateway.http2.incoming import IncomingCall
from gateway.http2.messages import Compressed
from gateway.protocols.at_once import begin, in_task
from gateway.protocols.edge import Edge, in_thread
from gateway.protocols.grpc_calls import failed
from gateway.protocols.grpc_keys import GrpcKeys
from gateway.protocols.grpc_methods import Context, Failed, Method, Methods
from gateway.protocols.http_coding import expand

_log = structlog.get_logger()


class GrpcAnswers:
    """Answers calls by the methods of the configuration that is served when each of them is asked.

    A call is let in by its headers, and its message may come much later: so its method is looked for again
    then. Calls with streams get one that itself asks for `Edge.now`.

    Args:
        latest: the methods; those of all configurations have the same paths.
        edge: has what all configurations share.
        keys: who may ask; None where everybody may.
    """

    def __init__(self, latest: Callable[[], Methods], edge: Edge, keys: GrpcKeys | None = None) -> None:
        self._latest = latest
        self._expanding = edge.expanding
        self._keys = keys

    def begin(self, call: IncomingCall) -> "asyncio.Task[None] | None":
        """Answer a call up to where that has to wait; the task of what is left, if anything is."""
        return begin(self._answer(call))

    async def _answer(self, call: IncomingCall) -> None:
        head = call.head
        method = self._latest().get(head.path)
        if method is None:
            call.finish(StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        context = Context(head.metadata, call.began, call.deadline)
        try:
            if self._keys is not None:
                await self._keys.admit(head.path, context, spends=not method.is_streamed)
            if method.is_streamed:
                await self._stream(call, method, context)
            else:
                message = await call.message()
                data = message if isinstance(message, bytes) else await self._expanded(call, message)
                call.reply(await self._latest()[head.path].call(data, context), context.trailers)
        except Failed as error:
            call.finish(error.code, error.details, trailers=error.trailers)
        except CallFailed as error:
            call.finish(error.code, error.details)
        except InferwayError as error:
            refusal = failed(error)
            call.finish(refusal.code, refusal.details, trailers=refusal.trailers)
        except asyncio.CancelledError:
            call.finish(StatusCode.CANCELLED, "the call was cancelled")
            if asyncio.current_task() is not None:  # else it is the connection that would be
                raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: a caller gets an answer
            _log.error("request_failed", protocol="grpc", method=head.path, exc_info=error)
            call.finish(StatusCode.INTERNAL, "internal error")

    async def _stream(self, call: IncomingCall, method: Method, context: Context) -> None:
        await in_task()
        call.is_streamed = True
        async with aclosing(method.call(self._messages(call), context)) as replies:
            async for reply in replies:
                await call.send(reply)
        call.finish(trailers=context.trailers)

    async def _messages(self, call: IncomingCall) -> AsyncGenerator[bytes, None]:
        while (message := await call.next()) is not None:
            yield message if isinstance(message, bytes) else await self._expanded(call, message)

    async def _expanded(self, call: IncomingCall, message: Compressed) -> bytes:
        """A message that came compressed. In a thread: 64 KiB that expand to 64 MiB take 300 ms."""
        encoding = call.head.encoding
        if encoding == "identity":
            raise Failed(StatusCode.INTERNAL, "a message is compressed, and its call did not say how")
        await in_task()
        limit = call.messages.limit
        try:
            return await in_thread(self._expanding, partial(expand, message.data, encoding, limit))
        except BodyTooLarge:
            text = f"SERVER: Decompressed message larger than max {limit}"  # as gRPC says it
        raise Failed(StatusCode.RESOURCE_EXHAUSTED, text)
