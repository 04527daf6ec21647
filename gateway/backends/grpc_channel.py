"""What every backend over gRPC shares: its channel, and whether a call that failed was ever sent."""

from operator import methodcaller
from typing import Any

import grpc
from google.protobuf.message import Message

ENVELOPE_BYTES = 64 * 1024
"""Room for names, shapes and parameters around the tensors of the largest message."""
OPTIONS = (
    ("grpc.max_send_message_length", -1),  # the edges have bounded it
    ("grpc.enable_http_proxy", 0),
    # By default gRPC waits up to two minutes before it tries a dead address again, and all channels to one
    # address share that wait.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)
_NO_CONNECTION = (
    "failed to connect",
    "connection refused",
    "connect failed",
    "name resolution",
    "dns resolution",
)


class GrpcChannel:
    """A channel to `host:port`; it is never pinged while idle.

    Args:
        address: `host:port`.
        max_request_bytes: the tensors of the largest message.
    """

    def __init__(self, address: str, *, max_request_bytes: int) -> None:
        limit = max_request_bytes + ENVELOPE_BYTES
        self._address = address
        self._options = [*OPTIONS, ("grpc.max_receive_message_length", limit)]
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[Any, Any]] = {}

    def method(self, path: str, reply: type[Message]) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        """The call of the method at `path`; the first opens the channel, in the event loop that runs then."""
        method = self._methods.get(path)
        if method is None:
            if self._channel is None:
                self._channel = grpc.aio.insecure_channel(self._address, options=self._options)
            method = self._methods[path] = self._channel.unary_unary(
                path,
                request_serializer=methodcaller("SerializeToString"),
                response_deserializer=reply.FromString,
            )
        return method

    async def aclose(self) -> None:
        """Close the connection; calls under way are cancelled."""
        if self._channel is not None:
            await self._channel.close()


def was_never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call failed before there was a connection to send it over.

    gRPC has no code of its own for that: its text tells. A connection that broke later says `Socket closed`,
    `Connection reset` or `GOAWAY`, and the server may have seen the request.
    """
    text = (error.details() or "").lower()
    return error.code() is grpc.StatusCode.UNAVAILABLE and any(words in text for words in _NO_CONNECTION)
