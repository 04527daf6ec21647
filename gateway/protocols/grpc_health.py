"""grpc.health.v1, which tells what `/v2/health/ready` tells: https://grpc.io/docs/guides/health-checking."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from grpc_health.v1.health_pb2 import (  # type: ignore[attr-defined] # `List` is newer than the type stubs
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListResponse,
)

from gateway.errors import InferwayError, NotFound
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_calls import failed, parsed
from gateway.protocols.grpc_methods import Context, Method, Methods

SERVICE = "grpc.health.v1.Health"
WATCH_SECONDS = 0.5
"""How long a change may take to reach who watches."""


def methods(edge: Edge, *services: str) -> Methods:
    """The health service.

    Args:
        edge: the gateway.
        services: the names that can be asked for, beside "" for the whole server.
    """
    health = _Health(edge, frozenset({"", SERVICE, *services}))
    return {
        f"/{SERVICE}/Check": Method(health.check),
        f"/{SERVICE}/List": Method(health.list),
        f"/{SERVICE}/Watch": Method(health.watch, is_streamed=True),
    }


class _Health:
    def __init__(self, edge: Edge, services: frozenset[str]) -> None:
        self._edge = edge
        self._services = services

    async def check(self, data: bytes, _: Context) -> bytes:
        """The status now; NOT_FOUND for a service that there is not."""
        service = _service(data)
        if service not in self._services:
            raise failed(NotFound(f"service '{service}' is not found"))
        return self._encoded(self._status(service))

    async def list(self, _: bytes, __: Context) -> bytes:
        """The status of every service now."""
        statuses = {name: HealthCheckResponse(status=self._status(name)) for name in self._services}
        data: bytes = HealthListResponse(statuses=statuses).SerializeToString()
        return data

    @staticmethod
    def _encoded(status: int) -> bytes:
        return HealthCheckResponse(status=status).SerializeToString()

    async def watch(self, messages: AsyncIterator[bytes], _: Context) -> AsyncGenerator[bytes, None]:
        """The status now, and each later one, until the gateway stops."""
        service = _service(await anext(messages, b""))
        last: int = HealthCheckResponse.UNKNOWN
        while not self._edge.closing.is_set():
            status = self._status(service)
            if status != last:
                yield self._encoded(status)
                last = status
            await asyncio.sleep(WATCH_SECONDS)

    def _status(self, service: str) -> int:
        if service not in self._services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._edge.now.ready else HealthCheckResponse.NOT_SERVING


def _service(data: bytes) -> str:
    """The name that a message asks about."""
    try:
        return str(parsed(HealthCheckRequest, data).service)
    except InferwayError as error:
        raise failed(error) from None
