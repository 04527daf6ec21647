"""Which files an ONNX file has its weights in, where it does not hold them itself (ONNX's "external data").

They are found in protobuf's encoding, without its messages: those of ONNX are not in the gateway's
environment, and to parse them would read every weight that lies in the file. The numbers of the fields are
those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, what they mean is told at
https://onnx.ai/onnx/repo-docs/ExternalData.html, and the encoding at
https://protobuf.dev/programming-guides/encoding/.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

_WAYS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}  # fmt: skip
"""By the kind of a message, the fields that lead to external data, and the kinds of the messages there."""
_KEY, _VALUE = 1, 2  # of an entry
_VARINT, _FIXED64, _LENGTH_DELIMITED, _GROUP, _END_GROUP, _FIXED32 = range(6)
_SIZES = {_FIXED64: 8, _GROUP: 0, _END_GROUP: 0, _FIXED32: 4}
_VARINT_BITS = 70  # of ten bytes, seven in each


class _Field(NamedTuple):
    """A length-delimited field, whose value lies from `begin` up to `end`."""

    number: int
    begin: int
    end: int


def external_locations(file: Path) -> tuple[str, ...]:
    """The locations of external data that an ONNX file names, each once and as it is there, in order.

    What is not in protobuf's form is passed over: ONNX Runtime loads no such file.

    Raises:
        OSError: it cannot be read.
    """
    found: set[str] = set()
    with file.open("rb") as content:
        messages = [("model", 0, os.fstat(content.fileno()).st_size)]
        while messages:
            kind, begin, end = messages.pop()
            fields = _fields(content, begin, end)
            if kind == "entry":
                found.update(_locations(content, fields))
            else:
                ways = _WAYS[kind]
                messages += [(ways[f.number], f.begin, f.end) for f in fields if f.number in ways]
    return tuple(sorted(found))


def _locations(content: BinaryIO, entry: Iterable[_Field]) -> Iterator[str]:
    """The value of an entry of external data whose key is `location`."""
    said = {field.number: _bytes(content, field) for field in entry}
    if said.get(_KEY) == b"location":
        yield os.fsdecode(said.get(_VALUE, b"").partition(b"\0")[0])  # a path ends there, whoever opens it


def _bytes(content: BinaryIO, field: _Field) -> bytes:
    content.seek(field.begin)
    return content.read(field.end - field.begin)


def _fields(content: BinaryIO, at: int, end: int) -> Iterator[_Field]:
    """The length-delimited fields of the message that lies there, as far as it is one."""
    while at < end:
        content.seek(at)
        tag = _varint(content)
        kind = tag & 7
        size = _varint(content) if kind in {_VARINT, _LENGTH_DELIMITED} else _SIZES.get(kind, -1)
        at = content.tell()
        if kind != _VARINT:
            if size < 0 or at + size > end:
                return
            if kind == _LENGTH_DELIMITED:
                yield _Field(tag >> 3, at, at + size)
            at += size


def _varint(content: BinaryIO) -> int:
    """The number that is next; -1 where there is none."""
    value = 0
    for shift in range(0, _VARINT_BITS, 7):
        byte = content.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] <= 0x7F:  # noqa: PLR2004 - the eighth bit says that more follow
            return value
    return -1
