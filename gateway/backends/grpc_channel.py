"""What every backend over gRPC shares: its channel, and whether a call that failed was ever sent."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from gateway.backends.channel_tls import ChannelTls
from gateway.errors import BadReply
from gateway.request_id import outgoing_metadata

M = TypeVar("M", bound=Message)
Call = grpc.aio.UnaryUnaryCall[bytes, bytes]

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
    # A replica that is replaced has another address; gRPC would not look for it more often than every 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
)
DEADLINE_GRACE_SECONDS = 0.1
"""How much later a server's deadline is than the caller's: who waits here leaves first, and knows why."""
RENEWAL_SECONDS = 150.0
"""How long calls may run on a channel whose certificate has been renewed: longer than any call does."""
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
        tls: how it is secured; None for a channel in the clear.
    """

    def __init__(self, address: str, *, max_request_bytes: int, tls: ChannelTls | None = None) -> None:
        limit = max_request_bytes + ENVELOPE_BYTES
        self._address = address
        self._options = [*OPTIONS, ("grpc.max_receive_message_length", limit)]
        self._tls = tls
        self._renewals = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Callable[..., Call]] = {}

    def method(self, path: str) -> Callable[..., Call]:
        """The call of the method at `path`; the first opens the channel, in the event loop that runs then.

        What comes back takes a serialised message, and `timeout` in seconds by name, and answers with one
        (for `parse`). It sends the request's id along, and what the server needs to go on with the trace.
        """
        if self._tls is not None and self._renewals != self._tls.renewals:
            self._renew()
        method = self._methods.get(path)
        if method is None:
            if self._channel is None:
                self._channel = self._open()
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)

            def method(message: bytes, *, timeout: float | None = None) -> Call:
                return call(message, timeout=timeout, metadata=outgoing_metadata())

            self._methods[path] = method
        return method

    async def aclose(self) -> None:
        """Close the connection; calls under way are cancelled."""
        for task in self._closing:
            task.cancel()
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(self._address, options=self._options)
        self._renewals = self._tls.renewals
        options = [*self._options, *self._tls.options]
        return grpc.aio.secure_channel(self._address, self._tls.credentials(), options=options)

    def _renew(self) -> None:
        """Let the calls under way finish on the old channel; the next opens another, with the new files."""
        old, self._channel = self._channel, None
        self._methods.clear()
        if old is not None:
            task = asyncio.ensure_future(old.close(grace=RENEWAL_SECONDS))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def parse(kind: type[M], reply: bytes) -> M:
    """The message of a reply.

    Raises:
        BadReply: it is none of that kind.
    """
    try:
        return kind.FromString(reply)
    except DecodeError as error:
        raise BadReply(f"the server answered with {len(reply)} bytes that are no {kind.__name__}") from error


def time_left(deadline: float) -> float | None:
    """What a call's gRPC deadline is to be, in seconds from now; None for a deadline that never passes.

    A server that is told need not begin what nobody waits for any more, also when the connection on which it
    would hear of the cancellation is lost.

    Args:
        deadline: of the request, a point of `time.monotonic()`.
    """
    left = deadline - time.monotonic()
    return None if left == math.inf else max(0.0, left) + DEADLINE_GRACE_SECONDS


def was_never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call failed before there was a connection to send it over.

    gRPC has no code of its own for that: its text tells. A connection that broke later says `Socket closed`,
    `Connection reset` or `GOAWAY`, and the server may have seen the request.
    """
    text = (error.details() or "").lower()
    return error.code() is grpc.StatusCode.UNAVAILABLE and any(words in text for words in _NO_CONNECTION)
