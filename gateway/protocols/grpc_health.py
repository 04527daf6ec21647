"""grpc.health.v1, which tells what `/v2/health/ready` tells: https://grpc.io/docs/guides/health-checking."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1.health_pb2 import (  # type: ignore[attr-defined] # `List` is newer than the type stubs
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

from gateway.errors import NotFound
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_calls import Context
from gateway.protocols.problems import error_text

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
    read, write = HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(health.check, read, write),
            "Watch": grpc.unary_stream_rpc_method_handler(health.watch, read, write),
            "List": grpc.unary_unary_rpc_method_handler(
                health.list, HealthListRequest.FromString, HealthListResponse.SerializeToString
            ),
        },
    )


class _Health:
    def __init__(self, edge: Edge, services: frozenset[str]) -> None:
        self._edge = edge
        self._services = services

    async def check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        """The status now; NOT_FOUND for a service that there is not."""
        if request.service not in self._services:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, error_text(NotFound(f"service '{request.service}' is not found"))
            )
        return HealthCheckResponse(status=self._status(request.service))

    async def list(self, _: HealthListRequest, _context: Context) -> HealthListResponse:
        """The status of every service now."""
        statuses = {name: HealthCheckResponse(status=self._status(name)) for name in self._services}
        return HealthListResponse(statuses=statuses)

    async def watch(
        self, request: HealthCheckRequest, _context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """The status now, and each later one."""
        last: int = HealthCheckResponse.UNKNOWN
        while True:
            status = self._status(request.service)
            if status != last:
                yield HealthCheckResponse(status=status)
                last = status
            await asyncio.sleep(WATCH_SECONDS)

    def _status(self, service: str) -> int:
        if service not in self._services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._edge.ready else HealthCheckResponse.NOT_SERVING
