"""gRPC's methods as their writers have them, by the paths that clients call."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from grpc import StatusCode

Trailers = Iterable[tuple[str, str]]


class Failed(Exception):
    """A call's end with another status than OK.

    Attributes:
        code: gRPC's.
        details: for the caller.
        trailers: to be sent along.
    """

    def __init__(self, code: StatusCode, details: str, trailers: Trailers = ()) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailers = tuple(trailers)


class Context:
    """What a method knows of its call beside the message.

    Args:
        metadata: the caller's, names in lower case, the last of several.
        arrived: when the call began to arrive, by `time.monotonic()`.
        deadline: when its caller will have gone, by the same clock; None when it did not say.

    Attributes:
        trailers: to be sent with the reply.
    """

    __slots__ = ("arrived", "deadline", "metadata", "trailers")

    def __init__(
        self, metadata: Mapping[str, str], arrived: float | None = None, deadline: float | None = None
    ) -> None:
        self.metadata = metadata
        self.arrived = arrived
        self.deadline = deadline
        self.trailers: list[tuple[str, str]] = []

    def time_left(self) -> float | None:
        """Seconds until the caller will have gone; None when it did not say."""
        return None if self.deadline is None else self.deadline - time.monotonic()


class Method(NamedTuple):
    """One method, from serialised messages to serialised messages.

    Attributes:
        call: of a unary one, from message and context to an awaitable of the reply; of one with streams, from
            an asynchronous iterator of messages and the context to one of replies. What fails raises Failed.
        is_streamed: whether it takes and gives streams. A stream of one is what others may take it for.
    """

    call: Callable[[Any, Context], Any]
    is_streamed: bool = False


Methods = Mapping[str, Method]
"""By path: `/package.Service/Method`."""
