"""Protobuf's wire format, for the one thing that generated messages are slow at: many bytes.

A message copies bytes that are put into it, into memory of its own, and once more when it is serialised. So a
request to a backend is a message for all that is small, serialised as usual, to which the fields with the
tensors are joined: one copy, whatever holds them. That is allowed, since the encoding of a message is that of
its fields one after the other, in any order (https://protobuf.dev/programming-guides/encoding/, "Message
Structure", "Field Order", "Maps").
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import chain

from google.protobuf.message import Message

Parts = tuple[bytes | memoryview, ...]
"""What, joined, is the encoding of some fields."""

_LENGTH_DELIMITED = 2
_MAP_KEY, _MAP_VALUE = 1, 2


def joined(message: Message, fields: Iterable[Parts]) -> bytes:
    """The encoding of a message to which these fields are added."""
    return b"".join((message.SerializeToString(), *chain.from_iterable(fields)))


def field(number: int, *parts: bytes | memoryview) -> Parts:
    """A field of type bytes, string or message.

    Args:
        number: of the field.
        parts: what, joined, is its value; a memoryview is one of bytes.
    """
    return _varint(number << 3 | _LENGTH_DELIMITED), _varint(sum(map(len, parts))), *parts


def map_entry(number: int, key: str, *parts: bytes | memoryview) -> Parts:
    """An entry of a map from string to bytes, string or message; `parts` are its value, as in `field`."""
    return field(number, *field(_MAP_KEY, key.encode()), *field(_MAP_VALUE, *parts))


@lru_cache(maxsize=1024)  # tags and lengths are few, and come again
def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte, the eighth says that more follow
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
