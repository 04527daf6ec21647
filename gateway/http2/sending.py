"""What one connection sends: messages in frames, as fast as the server's windows allow (RFC 9113, 5.2)."""

import asyncio
import struct

from gateway.http2 import frames
from gateway.http2.call import PREFIX_BYTES, Call
from gateway.http2.frames import frame_head

JOINED_BYTES = frames.FRAME_BYTES
"""Up to this a message is copied into one piece with its headers; more is cheaper in several."""


class Sending:
    """The windows of a connection and of its calls.

    Args:
        transport: what is sent goes there.

    Attributes:
        blocked: the calls that wait for room, by their streams, first come first.
        frame_bytes: the largest payload that the server takes.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.blocked: dict[int, Call] = {}
        self.frame_bytes = frames.FRAME_BYTES
        self._transport = transport
        self._window = self._first_window = frames.WINDOW_BYTES

    def send(self, call: Call) -> None:
        """Headers and message of a call that has its stream, or as much as there is room for."""
        size = len(call.message)
        length = PREFIX_BYTES + size
        head = frame_head(len(call.headers), frames.HEADERS, frames.END_HEADERS, call.stream)
        prefix = b"\0" + size.to_bytes(4, "big")
        if length <= JOINED_BYTES and length <= self._window and length <= self._first_window:
            self._window -= length
            data = frame_head(length, frames.DATA, frames.END_STREAM, call.stream)
            self._transport.write(b"".join((head, call.headers, data, prefix, call.message)))
            return
        self._transport.write(head + call.headers)
        call.window = self._first_window
        call.unsent = [memoryview(prefix)]
        if size:
            call.unsent.append(memoryview(call.message))
        self._go_on(call)

    def go_on(self) -> None:
        """Send more of those that were blocked, where there is room now."""
        for call in [*self.blocked.values()]:
            if self._window <= 0:
                return
            if call.window > 0:
                self._go_on(call)

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

    def _go_on(self, call: Call) -> None:
        parts: list[bytes | memoryview] = []
        while call.unsent and (room := min(self._window, call.window, self.frame_bytes)) > 0:
            piece, rest = call.unsent[0][:room], call.unsent[0][room:]
            call.unsent[:1] = [rest] if rest else []
            self._window -= len(piece)
            call.window -= len(piece)
            flags = 0 if call.unsent else frames.END_STREAM
            parts += frame_head(len(piece), frames.DATA, flags, call.stream), piece
        if parts:
            self._transport.writelines(parts)
        if call.unsent:
            self.blocked[call.stream] = call
        else:
            self.blocked.pop(call.stream, None)
