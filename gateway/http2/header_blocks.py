"""HPACK (RFC 7541) as a server reads it: a client's header blocks, with the table that it keeps.

The library `hpack` has the static table and Huffman's code; its own decoder takes ten times as long for the
block of a gRPC call, which is a few indexes once the table has its fields.
"""

from collections import deque
from functools import lru_cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from gateway.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ProtocolError

Field = tuple[bytes, bytes]

TABLE_BYTES = 4096
"""What a table may hold: the size that clients begin with (RFC 9113, 6.5.2)."""
MAX_LIST_BYTES = 64 * 1024
"""Of the fields of one block. Up to here those that are too many are read on, to keep the table in step: a
byte may stand for 4 KiB."""
MAX_FIELDS = 1000
"""Of one block, those included that only change the table's size: the least are a byte each, and such a block
of 64 KiB would take 30 ms."""
MAX_RESIZES = 2
"""At the head of a block (RFC 7541, 4.2)."""
FIELD_BYTES = 32
"""What a field counts beside its text, in a table as in a list (RFC 7541, 4.1; RFC 9113, 6.5.2)."""
_STATIC: tuple[Field, ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_INDEXED, _KEPT, _RESIZE = 0x80, 0x40, 0x20
_MAX_SHIFT = 28
_SHORT_BYTES = 64


class HeaderBlocks:
    """The header blocks of one client, which must be read in the order in which they came.

    Attributes:
        has_changed: the last block has changed the table: equal blocks mean equal fields only in between.
    """

    def __init__(self) -> None:
        self._kept: deque[Field] = deque()
        self._size = 0
        self._limit = TABLE_BYTES
        self.has_changed = False

    def read(self, block: bytes, limit: int) -> tuple[list[Field], int]:
        """Fields of a block, in order, and the size of all there are; those beyond `limit` are left out.

        Raises:
            ProtocolError: it is no block, or too large; the table is of no use any more.
        """
        self.has_changed = False
        try:
            return self._read(block, limit)
        except (IndexError, HPACKDecodingError) as error:
            raise _unreadable("it ends early, or names a field that there is not") from error

    def _read(self, block: bytes, limit: int) -> tuple[list[Field], int]:
        fields: list[Field] = []
        at = size = count = resizes = 0
        while at < len(block):
            first = block[at]
            count += 1
            if count > MAX_FIELDS:
                raise ProtocolError("headers are far too many", ENHANCE_YOUR_CALM)
            if first & _INDEXED:
                index, at = _integer(block, at, 0x7F)
                field = self._field(index)
            elif first & _KEPT:
                field, at = self._literal(block, at, 0x3F)
                self._keep(field)
            elif first & _RESIZE:
                resizes += 1
                if size or resizes > MAX_RESIZES:
                    raise _unreadable("the table's size changes within it, or too often")
                new, at = _integer(block, at, 0x1F)
                self._resize(new)
                continue
            else:
                field, at = self._literal(block, at, 0x0F)
            size += len(field[0]) + len(field[1]) + FIELD_BYTES
            if size <= limit:
                fields.append(field)
            elif size > MAX_LIST_BYTES:
                raise ProtocolError("headers are far too many", ENHANCE_YOUR_CALM)
        return fields, size

    def _field(self, index: int) -> Field:
        if 0 < index < len(_STATIC):
            return _STATIC[index]
        if not index:
            raise IndexError
        return self._kept[index - len(_STATIC)]

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        index, at = _integer(block, at, mask)
        if index:
            name = self._field(index)[0]
        else:
            name, at = _text(block, at)
        value, at = _text(block, at)
        return (name, value), at

    def _keep(self, field: Field) -> None:
        self.has_changed = True
        self._kept.appendleft(field)
        self._size += len(field[0]) + len(field[1]) + FIELD_BYTES
        self._make_room()

    def _resize(self, size: int) -> None:
        if size > TABLE_BYTES:
            raise _unreadable("the table is to be larger than was allowed")
        self.has_changed = True
        self._limit = size
        self._make_room()

    def _make_room(self) -> None:
        while self._size > self._limit:
            name, value = self._kept.pop()
            self._size -= len(name) + len(value) + FIELD_BYTES


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """A number that begins in the lower bits of a byte (RFC 7541, 5.1), and where the next thing is."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    shift = 0
    while shift <= _MAX_SHIFT:
        more = block[at]
        at += 1
        number += (more & 0x7F) << shift
        if not more & 0x80:
            return number, at
        shift += 7
    raise _unreadable("a number is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    is_coded = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise IndexError
    text = block[at:end]
    if not is_coded:
        return text, end
    return _decoded(text) if length <= _SHORT_BYTES else decode_huffman(text), end


@lru_cache(1024)
def _decoded(text: bytes) -> bytes:
    """Of what clients write again and again, such as a deadline."""
    return decode_huffman(text)


def _unreadable(why: str) -> ProtocolError:
    return ProtocolError(f"a header block cannot be read: {why}", COMPRESSION_ERROR)
