"""What comes over a connection, either side's: whole frames, and header blocks in one piece (RFC 9113, 4)."""

import sys
from collections.abc import Callable, Mapping

from gateway.http2 import frames
from gateway.http2.frames import HEAD_BYTES, LAST_STREAM, ProtocolError

MAX_BLOCK_FRAMES = 128
"""Frames of one header block; they may be empty, and so many that it never ends."""

OnFrame = Callable[[int, int, bytes], None]
"""What takes a frame: flags, stream, payload; of a header block what it carries, joined."""


class FrameReader:
    """Splits bytes into frames. A first frame other than SETTINGS is an error.

    Args:
        on_frame: what takes each kind of frame, HEADERS as whole blocks; others are ignored.
        max_block_bytes: the largest header block.
        is_over: whether to leave the rest unread.
    """

    def __init__(
        self, on_frame: Mapping[int, OnFrame], max_block_bytes: int, is_over: Callable[[], bool]
    ) -> None:
        self._on_frame = {
            **on_frame,
            frames.HEADERS: self._on_headers,
            frames.CONTINUATION: self._on_continuation,
        }
        self._on_block = on_frame[frames.HEADERS]
        self._max_block_bytes = max_block_bytes
        self._is_over = is_over
        self._has_begun = False
        self._buffer = b""
        self._block: tuple[int, int, list[bytes]] | None = None

    def read(self, data: bytes, most: int = sys.maxsize) -> bool:
        """Hand on the frames that are whole now, and keep the rest; whether there may be more of them.

        Args:
            data: what came.
            most: how many to hand on.

        Raises:
            ProtocolError, struct.error: they break the rules.
        """
        if self._buffer:
            data = self._buffer + data
        at, length, count = 0, len(data), 0
        while length - at >= HEAD_BYTES and count < most and not self._is_over():
            high, low, kind, flags, stream = frames.parse_head(data, at)
            size = high << 8 | low
            if not self._has_begun:
                if kind != frames.SETTINGS or flags & frames.ACK:
                    raise ProtocolError(f"the other side speaks no HTTP/2, it began with {data[:16]!r}")
                self._has_begun = True
            if size > frames.FRAME_BYTES:
                raise ProtocolError("a frame is too large", frames.FRAME_SIZE_ERROR)
            end = at + HEAD_BYTES + size
            if end > length:
                break
            stream &= LAST_STREAM
            if self._block is not None and (kind != frames.CONTINUATION or stream != self._block[1]):
                raise ProtocolError("a header block is interrupted")
            if (stream == 0 and kind in frames.OF_A_STREAM) or (stream and kind in frames.OF_A_CONNECTION):
                raise ProtocolError("a frame is on a stream that its kind cannot have")
            count += 1
            on_frame = self._on_frame.get(kind)
            if on_frame is not None:
                on_frame(flags, stream, data[at + HEAD_BYTES : end])
            at = end
        self._buffer = data[at:]
        return count >= most

    def end(self) -> None:
        """Hand on nothing any more, and forget who took it."""
        self._on_frame.clear()
        del self._on_block

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        payload = frames.unpadded(flags, payload)
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream, payload)
        else:
            self._block = (flags, stream, [payload])

    def _on_continuation(self, flags: int, _: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolError("a header block goes on that has not begun")
        first, stream, parts = self._block
        parts.append(payload)
        if len(parts) > MAX_BLOCK_FRAMES or sum(map(len, parts)) > self._max_block_bytes:
            raise ProtocolError("a header block is too large")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(first, stream, b"".join(parts))
