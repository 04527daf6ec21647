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
    metadata_bytes: int = 16 * 1024
    streams: int = 1000
    opening_seconds: float = 30.0
    ping_seconds: float = 60.0
    pong_seconds: float = 20.0
    client_ping_seconds: float = 10.0
    age_seconds: float = 0.0
    age_grace_seconds: float = 0.0
