"""API keys over gRPC: a call is let in, or refused, by its metadata alone.

An interceptor decides before the message is received: a refused call is answered by a handler that takes a
stream of messages and reads none of it. Which model is asked for stands in the message; the stage Authorized
looks at that.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

import grpc

from gateway.access import Access
from gateway.errors import Refused, Unauthenticated
from gateway.protocols import grpc_health, oip_grpc, tfserving_grpc, torchserve_grpc
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_calls import Context, identify
from gateway.protocols.problems import GRPC_STATUS, TORCHSERVE_BAD_TOKEN, error_text, failure_headers
from gateway.request_id import HEADER, REQUEST_ID

INFERS = {
    f"/{oip_grpc.SERVICE}/ModelInfer": oip_grpc.PROTOCOL,
    f"/{oip_grpc.SERVICE}/ModelStreamInfer": oip_grpc.PROTOCOL,
    f"/{tfserving_grpc.PREDICTION_SERVICE}/Predict": tfserving_grpc.PROTOCOL,
    f"/{torchserve_grpc.SERVICE}/Predictions": torchserve_grpc.PROTOCOL,
}
"""The methods whose refusals are measured, each with its protocol."""
OPEN = frozenset(
    {
        *(f"/{grpc_health.SERVICE}/{method}" for method in ("Check", "List", "Watch")),
        f"/{oip_grpc.SERVICE}/ServerLive",
        f"/{oip_grpc.SERVICE}/ServerReady",
        f"/{torchserve_grpc.SERVICE}/Ping",
    }
)
"""The methods that need no key: probes have none."""

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Lets calls in by their API keys.

    Args:
        access: who may ask.
        edge: what measures the refusals.
    """

    def __init__(self, access: Access, edge: Edge) -> None:
        self._access = access
        self._edge = edge

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """The method's own handler, or one that refuses."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method in OPEN:  # None: gRPC itself says that there is no such method
            return handler
        metadata: dict[str, Any] = dict(handler_call_details.invocation_metadata or ())
        try:
            await self._access.admit(
                str(metadata.get("authorization", "")),
                str(metadata.get("x-api-key", "")),
                spends=not handler.request_streaming,  # a stream's requests count one by one
            )
        except Refused as error:
            identify(handler_call_details.invocation_metadata)
            return self._refusal(method, error)
        return handler

    def _refusal(self, method: str, error: Refused) -> _Handler:
        if method in INFERS:
            with suppress(Refused), self._edge.now.measured.start(INFERS[method]):
                raise error
        status, text = GRPC_STATUS[error.code], error_text(error)
        trailers = {**failure_headers(error), HEADER: REQUEST_ID.get()}
        if isinstance(error, Unauthenticated) and method.startswith(f"/{torchserve_grpc.SERVICE}/"):
            text = TORCHSERVE_BAD_TOKEN

        async def refuse(_: AsyncIterator[bytes], context: Context) -> None:
            context.set_trailing_metadata(tuple(trailers.items()))
            await context.abort(status, text)

        return grpc.stream_stream_rpc_method_handler(refuse)
