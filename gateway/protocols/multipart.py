"""`multipart/form-data` bodies, from memory to memory."""

from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.errors import MalformedBody

MAX_PARTS = 1000
"""Each costs 15 us on the event loop, and a body of 64 MiB could have a million."""

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


def parse_multipart(body: bytes, content_type: str) -> dict[str, bytes]:
    """The parts by name; of several with the same name the last.

    Args:
        body: the whole body; its size is the caller's to bound.
        content_type: the header, which holds the boundary.

    Raises:
        MalformedBody: no boundary, a part without a name, more than MAX_PARTS, broken or cut short.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBody("multipart/form-data: expected a boundary in Content-Type, got none")
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBody(f"the multipart body is broken: {error}") from error
    if not parts.ended:
        raise MalformedBody("the multipart body is cut short")
    return parts.found


class _Parts:
    """Collects what the parser reports: each callback gets a buffer, and start and end of the news in it."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}
        self.ended = False
        self._header = b""
        self._value = b""
        self._name: str | None = None
        self._count = 0
        self._chunks: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise MalformedBody(f"multipart/form-data: expected at most {MAX_PARTS} parts, got more")
        self._name = None
        self._chunks = []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"name")
            self._name = None if name is None else name.decode("utf-8", "replace")
        self._header = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        if self._name is None:
            raise MalformedBody("multipart/form-data: expected a name for each part, got a part without one")
        self.found[self._name] = b"".join(self._chunks)

    def _finish(self) -> None:
        self.ended = True
