"""What every backend over gRPC shares: how its channel is opened, and whether a failed call was ever sent."""

import grpc

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


def open_channel(address: str, *, max_request_bytes: int) -> grpc.aio.Channel:
    """A channel to `host:port`; it connects with its first call and is never pinged while idle.

    It belongs to the event loop that runs now.
    """
    limit = max_request_bytes + ENVELOPE_BYTES
    return grpc.aio.insecure_channel(address, options=[*OPTIONS, ("grpc.max_receive_message_length", limit)])


def was_never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call failed before there was a connection to send it over.

    gRPC has no code of its own for that: its text tells. A connection that broke later says `Socket closed`,
    `Connection reset` or `GOAWAY`, and the server may have seen the request.
    """
    text = (error.details() or "").lower()
    return error.code() is grpc.StatusCode.UNAVAILABLE and any(words in text for words in _NO_CONNECTION)
