"""What one connection sends: messages in frames, as fast as the server's windows allow (RFC 9113, 5.2)."""

import asyncio
import struct

from gateway.http2 import frames
from gateway.http2.call import PREFIX_BYTES, Call
from gateway.http2.frames import frame_head

JOINED_BYTES = frames.FRAME_BYTES
"""Up to this a message is copied into one piece with its headers; more is cheaper in several."""
TURN_BYTES = 64 * 1024
"""Of a larger message is sent so much before it is another's turn."""


class Sending:
    """The windows of a connection and of its calls.

    Args:
        transport: what is sent goes there.

    Attributes:
        blocked: the calls that wait for room, by their streams, in the order of their turns.
        is_paused: the server has not read what was sent before. What is small is sent all the same; it
            overtakes the large ones, which then have not left yet.
        frame_bytes: the largest payload that the server takes.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.blocked: dict[int, Call] = {}
        self.frame_bytes = frames.FRAME_BYTES
        self.is_paused = False
        self._transport = transport
        self._window = self._first_window = frames.WINDOW_BYTES

    def send(self, call: Call) -> None:
        """Headers and message of a call that has its stream, or as much as there is room for."""
        size = len(call.message)
        length = PREFIX_BYTES + size
        headers = call.block()
        head = frame_head(len(headers), frames.HEADERS, frames.END_HEADERS, call.stream)
        prefix = b"\0" + size.to_bytes(4, "big")
        if length <= JOINED_BYTES and length <= self._window and length <= self._first_window:
            self._window -= length
            data = frame_head(length, frames.DATA, frames.END_STREAM, call.stream)
            self._transport.write(b"".join((head, headers, data, prefix, call.message)))
            return
        self._transport.write(head + headers)
        call.window = self._first_window
        call.unsent = [memoryview(prefix)]
        if size:
            call.unsent.append(memoryview(call.message))
        self.blocked[call.stream] = call
        self.go_on()

    def go_on(self) -> None:
        """Send more of those that were blocked, in turns, as long as there is room."""
        has_room = True
        while has_room:
            has_room = False
            for call in [*self.blocked.values()]:
                if self._window <= 0 or self.is_paused:
                    return
                if call.window > 0:
                    self._turn(call)
                    has_room = True

    def enlarge(self, stream: int, payload: bytes) -> None:
        """There is room for so many bytes more, on a stream or, for 0, on the connection.

        Raises:
            struct.error: it is no number.
        """
        (more,) = struct.unpack(">I", payload)
        more &= frames.MAX_WINDOW_BYTES
        if stream == 0:
            self._window += more
        elif stream in self.blocked:
            self.blocked[stream].window += more

    def resize(self, first_window: int) -> None:
        """Every stream has this window at first, also those that are open already."""
        for call in self.blocked.values():
            call.window += first_window - self._first_window
        self._first_window = first_window

    def _turn(self, call: Call) -> None:
        parts: list[bytes | memoryview] = []
        left = TURN_BYTES
        while call.unsent and (room := min(self._window, call.window, self.frame_bytes, left)) > 0:
            piece, rest = call.unsent[0][:room], call.unsent[0][room:]
            call.unsent[:1] = [rest] if rest else []
            self._window -= len(piece)
            call.window -= len(piece)
            left -= len(piece)
            flags = 0 if call.unsent else frames.END_STREAM
            parts += frame_head(len(piece), frames.DATA, flags, call.stream), piece
        del self.blocked[call.stream]
        if call.unsent:
            self.blocked[call.stream] = call
        self._transport.writelines(parts)
