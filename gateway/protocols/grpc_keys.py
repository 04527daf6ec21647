"""API keys over gRPC: a call is let in, or refused, by its metadata alone, before its message is received.

Which model is asked for stands in the message; the stage Authorized looks at that.
"""

from contextlib import suppress

from gateway.access import Access
from gateway.errors import Refused, Unauthenticated
from gateway.protocols import grpc_health, oip_grpc, tfserving_grpc, torchserve_grpc
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_calls import identify
from gateway.protocols.grpc_methods import Context, Failed
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


class GrpcKeys:
    """Lets calls in by their API keys.

    Args:
        access: who may ask.
        edge: what measures the refusals.
    """

    def __init__(self, access: Access, edge: Edge) -> None:
        self._access = access
        self._edge = edge

    async def admit(self, path: str, context: Context, *, spends: bool) -> None:
        """Let a call in, and remember whose it is.

        Args:
            path: of the method.
            context: of the call.
            spends: whether it counts; a stream's requests count one by one.

        Raises:
            Failed: it is refused.
        """
        if path in OPEN:
            return
        metadata = context.metadata
        try:
            await self._access.admit(
                metadata.get("authorization", ""), metadata.get("x-api-key", ""), spends=spends
            )
        except Refused as error:
            identify(metadata)
            raise self._refusal(path, context, error) from None

    def _refusal(self, path: str, context: Context, error: Refused) -> Failed:
        if path in INFERS:
            with suppress(Refused), self._edge.now.measured.start(INFERS[path], context.arrived):
                raise error
        text = error_text(error)
        if isinstance(error, Unauthenticated) and path.startswith(f"/{torchserve_grpc.SERVICE}/"):
            text = TORCHSERVE_BAD_TOKEN
        trailers = (*failure_headers(error).items(), (HEADER, REQUEST_ID.get()))
        return Failed(GRPC_STATUS[error.code], text, trailers)
