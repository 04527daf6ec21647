"""What a connection sends: messages in frames, as fast as the other side's windows allow (RFC 9113, 5.2)."""

from collections.abc import Callable
from typing import ClassVar, Generic, Protocol, TypeVar

from gateway.http2 import frames
from gateway.http2.call import PREFIX_BYTES, Call
from gateway.http2.frames import frame_head

JOINED_BYTES = frames.FRAME_BYTES
"""Up to this a message is copied into one piece with its headers; more is cheaper in several."""
TURN_BYTES = 64 * 1024
"""Of a larger message is sent so much before it is another's turn."""


class Outgoing(Protocol):
    """What is sent on one stream.

    Attributes:
        LAST: flags of the DATA frame with the last byte.
        stream: its number.
        window: how many bytes the other side has room for.
        unsent: what is left, in pieces.
    """

    LAST: ClassVar[int]
    stream: int
    window: int
    unsent: list[memoryview]

    def sent(self) -> bytes:
        """All of it has been: the frames that follow."""


OutgoingT = TypeVar("OutgoingT", bound=Outgoing)


class Sending(Generic[OutgoingT]):
    """The connection's window, and the turns of what waits for room.

    Args:
        write: takes what is sent, in pieces.

    Attributes:
        blocked: what waits for room, by its stream, in the order of their turns.
        window: how many bytes the other side has room for, over all streams.
        first_window: of a stream that opens now.
        is_paused: the other side has not read what was sent before.
        frame_bytes: the largest payload that it takes.
    """

    def __init__(self, write: Callable[[list[bytes | memoryview]], None]) -> None:
        self.blocked: dict[int, OutgoingT] = {}
        self.frame_bytes = frames.FRAME_BYTES
        self.is_paused = False
        self.window = self.first_window = frames.WINDOW_BYTES
        self._write = write

    def go_on(self) -> None:
        """Send more of those that were blocked, in turns, as long as there is room."""
        has_room = True
        while has_room:
            has_room = False
            for each in [*self.blocked.values()]:
                if self.is_paused:
                    return
                if (each.window > 0 and self.window > 0) or not each.unsent:
                    self._turn(each)
                    has_room = True

    def _turn(self, each: OutgoingT) -> None:
        parts: list[bytes | memoryview] = []
        left = TURN_BYTES
        while each.unsent and (room := min(self.window, each.window, self.frame_bytes, left)) > 0:
            piece, rest = each.unsent[0][:room], each.unsent[0][room:]
            each.unsent[:1] = [rest] if rest else []
            self.window -= len(piece)
            each.window -= len(piece)
            left -= len(piece)
            flags = 0 if each.unsent else each.LAST
            parts += frame_head(len(piece), frames.DATA, flags, each.stream), piece
        del self.blocked[each.stream]
        if each.unsent:
            self.blocked[each.stream] = each
        elif rest_of_it := each.sent():
            parts.append(rest_of_it)
        self._write(parts)


class CallSending(Sending[Call]):
    """Of a client's calls, each of which is one message.

    What is small is sent also while the server reads nothing; it overtakes the large ones, which then have
    not left yet.
    """

    def send(self, call: Call) -> None:
        """Headers and message of a call that has its stream, or as much as there is room for."""
        size = len(call.message)
        length = PREFIX_BYTES + size
        headers = call.block()
        head = frame_head(len(headers), frames.HEADERS, frames.END_HEADERS, call.stream)
        prefix = b"\0" + size.to_bytes(4, "big")
        if length <= JOINED_BYTES and length <= self.window and length <= self.first_window:
            self.window -= length
            data = frame_head(length, frames.DATA, frames.END_STREAM, call.stream)
            self._write([b"".join((head, headers, data, prefix, call.message))])
            return
        self._write([head + headers])
        call.window = self.first_window
        call.unsent = [memoryview(prefix)]
        if size:
            call.unsent.append(memoryview(call.message))
        self.blocked[call.stream] = call
        self.go_on()

    def enlarge(self, stream: int, more: int) -> None:
        """There is room for so many bytes more, on a stream or, for 0, on the connection."""
        if stream == 0:
            self.window += more
        elif stream in self.blocked:
            self.blocked[stream].window += more

    def resize(self, first_window: int) -> None:
        """Every stream has this window at first, also those that are open already."""
        for call in self.blocked.values():
            call.window += first_window - self.first_window
        self.first_window = first_window
