"""gRPC methods on a socket of our own server, for tests that call them by real clients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from gateway.grpc_server import GrpcServer, limits
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_answer import GrpcAnswers
from gateway.protocols.grpc_methods import Methods
from gateway.server import address, bind
from gateway.settings import ServerSettings
from tests.fakes import FakeInfer, fake_edge

USUAL = replace(
    limits(ServerSettings(max_connection_age_seconds=0, max_connection_age_grace_seconds=0)),
    message_bytes=4 * 1024 * 1024,
)


class GrpcServing:
    """A server on a free port; an async context manager.

    Args:
        methods: that it has, or what tells them.
        edge: that they are of.
        keys: who may ask.
        tls: of the port.
        other_limits: that are not the usual ones.

    Attributes:
        address: host:port.
    """

    def __init__(
        self,
        methods: Methods | Callable[[], Methods],
        edge: Edge | None = None,
        *,
        keys: Any = None,
        tls: Any = None,
        **other_limits: Any,
    ) -> None:
        latest = methods if callable(methods) else lambda: methods
        answers = GrpcAnswers(latest, edge or fake_edge(FakeInfer()), keys)
        self.server = GrpcServer(answers.begin, replace(USUAL, **other_limits), tls)
        self.address = ""

    async def start(self) -> Self:
        """Listen."""
        listener = bind("127.0.0.1", 0, "grpc_port")
        listener.listen()
        self.address = address(listener)
        self.server.start(listener)
        return self

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """End."""
        await self.server.stop(grace_seconds)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
