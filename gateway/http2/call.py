"""One unary call: what it sends and comes to.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import asyncio
import math
import time
from collections.abc import Iterable
from typing import ClassVar, Protocol
from urllib.parse import unquote

from grpc import StatusCode

from gateway.http2.frames import END_STREAM, Headers, header

PREFIX_BYTES = 5
"""In front of a message: whether it is compressed, and its length."""
MAX_REPEATS = 3
"""How often a call is sent again that the server said it has not begun."""
_MAX_TIMEOUT_DIGITS = 10**8
_STATUSES: dict[bytes, StatusCode] = {str(code.value[0]).encode(): code for code in StatusCode}
_OF_HTTP = {
    b"400": StatusCode.INTERNAL,
    b"401": StatusCode.UNAUTHENTICATED,
    b"403": StatusCode.PERMISSION_DENIED,
    b"404": StatusCode.UNIMPLEMENTED,
    b"429": StatusCode.UNAVAILABLE,
    b"502": StatusCode.UNAVAILABLE,
    b"503": StatusCode.UNAVAILABLE,
    b"504": StatusCode.UNAVAILABLE,
}
"""What an answer without a gRPC status means (http-grpc-status-mapping.md); any other is UNKNOWN."""
_OF_RESET = {
    0x7: StatusCode.UNAVAILABLE,  # REFUSED_STREAM
    0x8: StatusCode.CANCELLED,
    0xB: StatusCode.RESOURCE_EXHAUSTED,  # ENHANCE_YOUR_CALM
    0xC: StatusCode.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
"""What HTTP/2's error codes mean; any other is INTERNAL."""


class CallFailed(Exception):
    """A call that has no reply.

    Attributes:
        code: gRPC's status.
        details: the server's text, or ours.
        was_sent: whether the server may have begun to work on it.
    """

    def __init__(self, code: StatusCode, details: str, *, was_sent: bool = True) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.was_sent = was_sent


class Place(Protocol):
    """Where a call waits or runs."""

    def forget(self, call: "Call", /) -> None:
        """Nobody waits for it any more."""


class Call:
    """A call from its beginning to its reply.

    Args:
        headers: its header block, without its deadline.
        message: serialised.
        limit: the largest reply in bytes.
        reply: the message that comes back, or a CallFailed; who cancels it ends the call.
        deadline: a point of `time.monotonic()`, to be told to the server; inf for none.

    Attributes:
        place: where it waits or runs, to be told when nobody waits for it any more.
        stream: its number on its connection; 0 before it has one.
        unsent: what is left of it, in pieces.
        window: how many bytes of them the server has room for.
        repeats: how often it was sent again.
    """

    LAST: ClassVar[int] = END_STREAM

    __slots__ = (
        "_expected",
        "_limit",
        "_pieces",
        "_received",
        "_start",
        "deadline",
        "headers",
        "message",
        "place",
        "repeats",
        "reply",
        "stream",
        "unsent",
        "window",
    )

    def __init__(
        self,
        headers: bytes,
        message: bytes,
        limit: int,
        reply: asyncio.Future[bytes],
        deadline: float = math.inf,
    ) -> None:
        self.headers = headers
        self.message = message
        self.reply = reply
        self.deadline = deadline
        self.place: Place | None = None
        self.stream = 0
        self.unsent: list[memoryview] = []
        self.window = 0
        self.repeats = 0
        self._limit = limit
        self._start = b""
        self._expected = -1
        self._received = 0
        self._pieces: list[bytes] = []

    @property
    def may_repeat(self) -> bool:
        """Whether it may be sent once more."""
        return self.repeats < MAX_REPEATS

    def block(self) -> bytes:
        """Its header block, as it is to be sent now."""
        if self.deadline == math.inf:
            return self.headers
        return self.headers + header("grpc-timeout", timeout_text(self.deadline - time.monotonic()))

    def sent(self) -> bytes:
        """All of it has been; nothing follows."""
        return b""

    def leave(self, _: asyncio.Future[bytes]) -> None:
        """The reply is there, or nobody waits for it any more."""
        if self.place is not None:
            self.place.forget(self)

    def repeat(self) -> None:
        """Be as at the beginning."""
        self.repeats += 1
        self.stream, self.unsent = 0, []
        self._start, self._expected, self._received, self._pieces = b"", -1, 0, []

    def fail(self, code: StatusCode, details: str, *, was_sent: bool = True) -> None:
        """Let the caller know, if anyone waits."""
        if not self.reply.done():
            self.reply.set_exception(CallFailed(code, details, was_sent=was_sent))

    def open(self, headers: Headers) -> bool:
        """The reply's headers have come, its message follows; False, and the call has failed, if none can."""
        http = headers.get(b":status", b"")
        if http == b"200" or http[:1] == b"1":
            return True
        text = f"the server answered with HTTP status {http.decode('latin-1')}"
        self.fail(_OF_HTTP.get(http, StatusCode.UNKNOWN), text)
        return False

    def receive(self, piece: bytes) -> bool:
        """Take a piece of the reply; False, and the call has failed, if it cannot be one."""
        if self._expected < 0:
            piece = self._start + piece
            if len(piece) < PREFIX_BYTES:
                self._start = piece
                return True
            self._expected = int.from_bytes(piece[1:PREFIX_BYTES], "big")
            if piece[0]:
                self.fail(StatusCode.INTERNAL, "the server compressed its reply, which it was not asked to")
                return False
            if self._expected > self._limit:
                text = f"Received message larger than max ({self._expected} vs. {self._limit})"
                self.fail(StatusCode.RESOURCE_EXHAUSTED, text)
                return False
            piece = piece[PREFIX_BYTES:]
        self._received += len(piece)
        if self._received > self._expected:
            self.fail(StatusCode.INTERNAL, "the server sent more than one message")
            return False
        if piece:
            self._pieces.append(piece)
        return True

    def finish(self, headers: Headers) -> None:
        """The server is done, and these came last."""
        if self.reply.done():
            return
        status = headers.get(b"grpc-status")
        if status is None:
            if b":status" not in headers or self.open(headers):
                self.fail(StatusCode.UNKNOWN, "the server answered without a gRPC status")
            return
        if status != b"0":
            text = unquote(headers.get(b"grpc-message", b"").decode(errors="replace"))
            self.fail(_STATUSES.get(status, StatusCode.UNKNOWN), text)
            return
        if self._received != self._expected:
            self.fail(StatusCode.INTERNAL, "the server said OK without a whole message")
            return
        self.reply.set_result(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))

    def reset(self, code: int) -> None:
        """The server has ended it with HTTP/2's error code."""
        self.fail(_OF_RESET.get(code, StatusCode.INTERNAL), f"Received RST_STREAM with error code {code}")


def withdraw(waiting: Iterable[Call], reply: asyncio.Future[bytes]) -> None:
    """Cancel a reply, if it is that of one of these calls, which nobody has been sent."""
    if any(call.reply is reply for call in waiting):
        reply.cancel()


def timeout_text(seconds: float) -> str:
    """A timeout as gRPC writes it: at most eight digits and a unit."""
    seconds = max(0.0, seconds)
    for unit, many in (("u", 1e6), ("m", 1e3)):
        if (amount := max(1, math.ceil(seconds * many))) < _MAX_TIMEOUT_DIGITS:
            return f"{amount}{unit}"
    return f"{min(math.ceil(seconds), _MAX_TIMEOUT_DIGITS - 1)}S"
