"""What a listener calls, request by request: the handlers of the configuration that is served just then.

Listeners start once, and configurations come and go. Every configuration has an `Edge`, and handlers, of its
own; a request meets those of one configuration from its first byte to its reply.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import grpc
from starlette.types import ASGIApp, Receive, Scope, Send


class LatestHttp:
    """An ASGI app that is whatever app is the latest.

    Args:
        latest: the app.
    """

    def __init__(self, latest: Callable[[], ASGIApp]) -> None:
        self._latest = latest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        return self._latest()(scope, receive, send)


class LatestHandlers(grpc.GenericRpcHandler):
    """gRPC's handlers, whichever are the latest.

    gRPC picks a handler when a call begins, and calls it once the message is there, which may be much later:
    so a unary call looks for its handler again. Calls with streams get one that itself asks for `Edge.now`.

    Args:
        latest: the handlers; those of all configurations serve the same methods.
    """

    def __init__(self, latest: Callable[[], Sequence[grpc.GenericRpcHandler]]) -> None:
        self._latest = latest
        self._unary: dict[str, Any] = {}

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method; None when there is none."""
        method = handler_call_details.method
        known = self._unary.get(method)
        if known is not None:
            return known
        found = self._found(method)
        if found is None or found.request_streaming or found.response_streaming:
            return found

        async def call(data: bytes, context: Any) -> Any:
            return await self._found(method).unary_unary(data, context)

        serialize = found.response_serializer
        self._unary[method] = grpc.unary_unary_rpc_method_handler(call, response_serializer=serialize)
        return self._unary[method]

    def _found(self, method: str) -> Any:
        details: Any = _Details(method)
        for handler in self._latest():
            found = handler.service(details)
            if found is not None:
                return found
        return None


class _Details(NamedTuple):
    """What grpcio's own generic handlers look at."""

    method: str
