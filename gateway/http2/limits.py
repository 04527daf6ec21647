"""What a server allows a client."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may send and hold.

    Attributes:
        message_bytes: the largest message.
        metadata_bytes: of one call, as HTTP/2 counts them.
        streams: calls at a time.
        opening_seconds: until it has said that it speaks HTTP/2.
        ping_seconds: after which a connection over which nothing comes is asked whether it is there.
        pong_seconds: until it must have answered.
        client_ping_seconds: how often it may ping while it is sent nothing.
        age_seconds: after which the connection is to end; 0 for never.
        age_grace_seconds: until its last call must have.
    """

    message_bytes: int
    metadata_bytes: int
    streams: int
    opening_seconds: float
    ping_seconds: float
    pong_seconds: float
    client_ping_seconds: float
    age_seconds: float
    age_grace_seconds: float
