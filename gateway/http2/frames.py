"""Frames (RFC 9113) and header blocks (RFC 7541) as bytes."""

import struct
from collections.abc import Iterable

from hpack import Decoder
from hpack.exceptions import HPACKError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
OF_A_STREAM = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION))
OF_A_CONNECTION = frozenset((SETTINGS, PING, GOAWAY))
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
MAX_HEADER_LIST_SIZE = 6
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED = 0x0, 0x1, 0x2, 0x3, 0x5
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x6, 0x7, 0x8, 0x9, 0xB

HEAD_BYTES = 9
FRAME_BYTES = 16_384
"""The largest payload until the other side has allowed more; we never do."""
MAX_FRAME_BYTES = 2**24 - 1
PING_BYTES, PRIORITY_BYTES, GOAWAY_BYTES = 8, 5, 8
_SETTING_BYTES = 6
LAST_STREAM = 2**31 - 1
WINDOW_BYTES = 65_535
"""What a side may send at first, over a connection and over a stream."""
MAX_WINDOW_BYTES = 2**31 - 1
MAX_HEADER_LIST_BYTES = 64 * 1024
_MAX_KNOWN_BLOCKS = 256

Headers = dict[bytes, bytes]

parse_head = struct.Struct(">HBBBI").unpack_from
"""Of a frame: the length's upper 16 bits and lower 8, kind, flags, stream (its first bit means nothing)."""
_pack_head = struct.Struct(">HBBBI").pack


class ProtocolError(Exception):
    """The other side broke the rules: the connection cannot go on.

    Args:
        text: how.
        code: HTTP/2's, to tell it.
    """

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The 9 bytes before a payload of `length` bytes."""
    return _pack_head(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return frame_head(len(payload), kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in values))


def reset(stream: int, code: int) -> bytes:
    """The end of one stream."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int, text: bytes = b"") -> bytes:
    """No stream above `last` is begun."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + text)


def window_update(stream: int, more: int) -> bytes:
    """There is room for so many bytes more, on a stream or, for 0, on the connection."""
    return frame(WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))


def number(payload: bytes) -> int:
    """The one number that is in a frame, of 31 bits or an error code.

    Raises:
        ProtocolError: there is more or less.
    """
    if len(payload) != 4:  # noqa: PLR2004 - bytes of 32 bits
        raise ProtocolError("a frame of another size than its kind has", FRAME_SIZE_ERROR)
    return int.from_bytes(payload, "big") & LAST_STREAM


def checked_settings(payload: bytes) -> Iterable[tuple[int, int]]:
    """What a SETTINGS frame says.

    Raises:
        ProtocolError: it is no list of settings, or has a value that is not allowed.
    """
    if len(payload) % _SETTING_BYTES:
        raise ProtocolError("a part of a setting is missing", FRAME_SIZE_ERROR)
    for name, value in struct.iter_unpack(">HI", payload):
        if name == ENABLE_PUSH and value > 1:
            raise ProtocolError("a setting is neither on nor off")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW_BYTES:
            raise ProtocolError("a window is too large", FLOW_CONTROL_ERROR)
        if name == MAX_FRAME_SIZE and not FRAME_BYTES <= value <= MAX_FRAME_BYTES:
            raise ProtocolError("frames may be of no such size")
        yield name, value


def greeting(reply_bytes: int, connection_bytes: int) -> bytes:
    """What a client begins with: no tables, no pushes.

    Args:
        reply_bytes: that a reply may have; a stream's window.
        connection_bytes: that the server may send over the whole connection at first, at least 64 KiB.
    """
    values = (
        (HEADER_TABLE_SIZE, 0),
        (ENABLE_PUSH, 0),
        (INITIAL_WINDOW_SIZE, min(reply_bytes + WINDOW_BYTES, MAX_WINDOW_BYTES)),
        (MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST_BYTES),
    )
    return PREFACE + settings(values) + window_update(0, connection_bytes - WINDOW_BYTES)


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame carries, without padding and priority.

    Raises:
        ProtocolError: there is less than it says.
    """
    start = end = 0
    if flags & PADDED:
        start, end = 1, payload[0] if payload else 0
    if flags & PRIORITISED:
        start += 5
    if start + end > len(payload):
        raise ProtocolError("a frame is shorter than its padding")
    return payload[start : len(payload) - end]


def header(name: str, value: str) -> bytes:
    """One header, as a literal that neither side keeps; ASCII."""
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode("ascii")
    length = len(data)
    if length < 127:  # noqa: PLR2004 # seven bits hold it
        return bytes((length,)) + data
    size, length = bytearray((127,)), length - 127
    while length > 127:  # noqa: PLR2004
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes(size) + data


class HeaderReader:
    """Header blocks of a side that was told to keep no table, so that equal blocks mean equal headers."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_LIST_BYTES)
        self._decoder.max_allowed_table_size = self._decoder.header_table_size = 0
        self._known: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """The headers of a whole block; nobody may change them.

        Raises:
            ProtocolError: it is no block, keeps a table, or has more than 64 KiB of headers.
        """
        headers = self._known.get(block)
        if headers is None:
            try:
                headers = dict(self._decoder.decode(block, raw=True))
            except (HPACKError, ValueError) as error:
                raise ProtocolError(f"headers that cannot be read: {error}", COMPRESSION_ERROR) from error
            if len(self._known) >= _MAX_KNOWN_BLOCKS:  # a header is another each time, such as a date
                self._known.clear()
            self._known[block] = headers
        return headers
