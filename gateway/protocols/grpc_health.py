"""grpc.health.v1, which tells what `/v2/health/ready` tells: https://grpc.io/docs/guides/health-checking."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1.health_pb2 import (  # type: ignore[attr-defined] # `List` is newer than the type stubs
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListResponse,
)

from gateway.errors import InferwayError, MalformedBody, NotFound
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_calls import Context, parsed
from gateway.protocols.problems import GRPC_STATUS, error_text

SERVICE = "grpc.health.v1.Health"
WATCH_SECONDS = 0.5
"""How long a change may take to reach who watches."""


def health_handler(edge: Edge, *services: str) -> grpc.GenericRpcHandler:
    """The health service.

    Args:
        edge: the gateway.
        services: the names that can be asked for, beside "" for the whole server.
    """
    health = _Health(edge, frozenset({"", SERVICE, *services}))
    write = HealthCheckResponse.SerializeToString
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(health.check, response_serializer=write),
            "Watch": grpc.unary_stream_rpc_method_handler(health.watch, response_serializer=write),
            "List": grpc.unary_unary_rpc_method_handler(
                health.list, response_serializer=HealthListResponse.SerializeToString
            ),
        },
    )


class _Health:
    def __init__(self, edge: Edge, services: frozenset[str]) -> None:
        self._edge = edge
        self._services = services

    async def check(self, data: bytes, context: Context) -> HealthCheckResponse:
        """The status now; NOT_FOUND for a service that there is not."""
        service = await _service(data, context)
        if service not in self._services:
            await _abort(context, NotFound(f"service '{service}' is not found"))
        return HealthCheckResponse(status=self._status(service))

    async def list(self, _: bytes, _context: Context) -> HealthListResponse:
        """The status of every service now."""
        statuses = {name: HealthCheckResponse(status=self._status(name)) for name in self._services}
        return HealthListResponse(statuses=statuses)

    async def watch(self, data: bytes, context: Context) -> AsyncIterator[HealthCheckResponse]:
        """The status now, and each later one, until the gateway stops."""
        service = await _service(data, context)
        last: int = HealthCheckResponse.UNKNOWN
        while not self._edge.closing.is_set():
            status = self._status(service)
            if status != last:
                yield HealthCheckResponse(status=status)
                last = status
            await asyncio.sleep(WATCH_SECONDS)

    def _status(self, service: str) -> int:
        if service not in self._services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._edge.now.ready else HealthCheckResponse.NOT_SERVING


async def _service(data: bytes, context: Context) -> str:
    """The name that a message asks about. gRPC itself would log what is none, with a traceback for each."""
    try:
        return str(parsed(HealthCheckRequest, data).service)
    except MalformedBody as error:
        await _abort(context, error)
        raise


async def _abort(context: Context, error: InferwayError) -> None:
    await context.abort(GRPC_STATUS[error.code], error_text(error))
