"""One call as a server has it: what has come of it, who answers, and what is left to send."""

import asyncio
from collections.abc import Iterable
from typing import ClassVar, Protocol
from urllib.parse import quote

from grpc import StatusCode

from gateway.http2 import frames
from gateway.http2.call import PREFIX_BYTES, CallFailed
from gateway.http2.frames import frame, header
from gateway.http2.messages import Message, Messages
from gateway.http2.request_head import Head

Trailers = Iterable[tuple[str, str]]

NO_TABLE = b"\x20"
"""At the head of a block: we keep no table. Who announces a small one must hear so (RFC 7541, 4.2)."""
OPENING = b"".join(
    (
        NO_TABLE,
        b"\x88",  # :status 200, of the static table
        header("content-type", "application/grpc"),
        header("grpc-accept-encoding", "identity,deflate,gzip"),
    )
)
"""What every reply begins with."""
_OK = header("grpc-status", "0")
_TEXT = "".join(chr(each) for each in range(0x20, 0x7F) if each != ord("%"))
"""What stands for itself in grpc-message."""
MAX_TEXT_BYTES = 4096
"""Of a grpc-message or a trailer: callers can have their own words in it."""
MAX_END_BYTES = 7 * 1024
"""Of all that ends a reply: clients take 8 KiB of headers, and no frame beyond 16 KiB."""
MORE_THAN_ONE = "the method takes one message, and more came"


class Place(Protocol):
    """The connection that a call is on."""

    def put(self, call: "IncomingCall", /) -> None:
        """It has something to send."""

    def taken(self, call: "IncomingCall", /) -> None:
        """Its handler has taken a message."""

    def ended(self, call: "IncomingCall", /) -> bytes:
        """All of it has been sent; what is to follow."""


class IncomingCall:
    """A call from its headers to its last byte.

    Args:
        place: the connection.
        stream: its number there.
        head: its headers.
        began: when they came, by `time.monotonic()`.
        window: how many bytes the client has room for.
        max_message_bytes: the largest message that it may bring.

    Attributes:
        task: who answers; None while nobody has had to wait.
        timer: its deadline's.
        messages: what has come of it.
        room: how many bytes more the client may send.
        granted: how many of them beyond a stream's first window.
        body_bytes: that have come.
        is_taken: its only message is its handler's.
        is_streamed: it may bring any number of messages, else one.
        is_whole: its last byte has come.
        is_over: it was answered, or is not to be any more.
        is_open: its reply has begun.
        unsent: what is left to send.
    """

    LAST: ClassVar[int] = 0

    __slots__ = (
        "_drained",
        "_last",
        "_place",
        "_waiter",
        "began",
        "body_bytes",
        "granted",
        "head",
        "is_open",
        "is_over",
        "is_streamed",
        "is_taken",
        "is_whole",
        "messages",
        "room",
        "stream",
        "task",
        "timer",
        "unsent",
        "window",
    )

    def __init__(
        self, place: Place, stream: int, head: Head, began: float, window: int, max_message_bytes: int
    ) -> None:
        self._place = place
        self.stream = stream
        self.head = head
        self.began = began
        self.window = window
        self.messages = Messages(max_message_bytes)
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.room = frames.WINDOW_BYTES
        self.granted = 0
        self.body_bytes = 0
        self.is_streamed = self.is_taken = self.is_whole = self.is_over = self.is_open = False
        self.unsent: list[memoryview] = []
        self._last = b""
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # --- for who answers

    @property
    def deadline(self) -> float | None:
        """When the caller will have gone, by `time.monotonic()`; None when it did not say."""
        left = self.head.timeout_seconds
        return None if left is None else self.began + left

    async def message(self) -> Message:
        """The only message.

        Raises:
            CallFailed: there is none, or more than one.
        """
        message = await self.next()
        self.is_taken = True
        if message is None:
            raise CallFailed(StatusCode.UNIMPLEMENTED, "the method takes a message, and none came")
        if self.messages.whole:
            raise CallFailed(StatusCode.UNIMPLEMENTED, MORE_THAN_ONE)
        return message

    async def next(self) -> Message | None:
        """The next message, or None after the last."""
        while not self.messages.whole:
            if self.is_whole:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self.messages.take()
        self._place.taken(self)
        return message

    def reply(self, message: bytes, trailers: Trailers = ()) -> None:
        """Answer with one message, and OK."""
        self._add(message)
        self.finish(trailers=trailers)

    async def send(self, message: bytes) -> None:
        """Answer with one of several messages; waits for the client to have room for it."""
        self._add(message)
        self._place.put(self)
        if self.unsent and not self.is_over:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "", *, trailers: Trailers = ()) -> None:
        """End it, after all that was answered."""
        block = _OK if code is StatusCode.OK else header("grpc-status", str(code.value[0]))
        if details:
            block += header("grpc-message", _quoted(details))
        for name, value in trailers:
            is_plain = len(value) <= MAX_TEXT_BYTES and value.isascii() and value.isprintable()
            field = header(name, value if is_plain else _quoted(value))
            if len(block) + len(field) <= MAX_END_BYTES:
                block += field
        self._end(block)

    def refuse_http(self, status: int) -> None:
        """End it as what is no call of gRPC's."""
        self.is_open = True  # with this
        self._end(header(":status", str(status)))

    # --- for the connection

    @property
    def takes_more(self) -> bool:
        """Whether what it still brings is wanted."""
        if self.is_whole or self.is_over:
            return False
        return self.is_streamed or not (self.is_taken or self.messages.whole)

    @property
    def last_frame(self) -> bytes:
        """The trailers, once it has an end."""
        if not self._last:
            return b""
        return frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, self.stream, self._last)

    def add(self, piece: bytes) -> None:
        """Something came of its messages.

        Raises:
            CallFailed: it is not in gRPC's form, or more than the method takes.
        """
        if self.is_over:
            return
        self.body_bytes += len(piece)
        self.messages.add(piece)
        if self.messages.whole:
            if self.is_taken:
                raise CallFailed(StatusCode.UNIMPLEMENTED, MORE_THAN_ONE)
            self.wake()

    def wake(self) -> None:
        """A message is whole, or none comes any more."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def sent(self) -> bytes:
        """All that was unsent has been: let more come, or end."""
        if self._last:
            return self.last_frame + self._place.ended(self)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        return b""

    def _add(self, message: bytes) -> None:
        if self.is_over:
            return
        prefix = b"\0" + len(message).to_bytes(PREFIX_BYTES - 1, "big")
        if len(message) <= frames.FRAME_BYTES:
            self.unsent.append(memoryview(prefix + message))
        else:
            self.unsent += memoryview(prefix), memoryview(message)

    def _end(self, block: bytes) -> None:
        if self.is_over:
            return
        self._last = (NO_TABLE if self.is_open or self.unsent else OPENING) + block
        self.is_over = True
        self._place.put(self)


def _quoted(text: str) -> str:
    """A text as grpc-message has it, cut where it is too long."""
    quoted = quote(text[:MAX_TEXT_BYTES], safe=_TEXT, errors="replace")[:MAX_TEXT_BYTES]
    return quoted[: quoted.rfind("%")] if "%" in quoted[-2:] else quoted  # half a byte is none
