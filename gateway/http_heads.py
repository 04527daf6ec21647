"""The heads of HTTP requests, by their bytes: over its connection a client sends the same again and again.

httptools tells Python of each header, and uvicorn puts what it hears together anew for every request. That is
10 us of the 24 in which a connection does its part of a small one. So what was read once is looked up by the
same bytes, all but the digits of Content-Length, and is the same again. That is done for whole requests that
came in one read: a head that is known to have no error, and behind it as many bytes as it says.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.repeats import Repeats

HEAD_BYTES = 2048
"""The longest head that is kept."""
KNOWN = 1024
"""So many are kept; one more, and all are forgotten."""
MOST_HEADERS = 32
"""A head with more is not kept: each is several objects. So all that are kept take at most some 9 MiB."""

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,9})(?=\r\n)")
_KEPT = (
    "type",
    "asgi",
    "http_version",
    "method",
    "path",
    "raw_path",
    "query_string",
    "root_path",
)
"""Of a scope, beside the headers: what the head alone decides."""


class Request(NamedTuple):
    """What may be one whole request.

    Attributes:
        head: its head without the digits of Content-Length.
        digits: those; None where they are not found.
        begin: where the body begins.
    """

    head: bytes
    digits: bytes | None
    begin: int


class _Head(NamedTuple):
    scope: Mapping[str, Any]
    headers: Sequence[tuple[bytes, bytes]]
    length_at: int


class RequestHeads:
    """Those that are known."""

    def __init__(self) -> None:
        # By its bytes, and whether Content-Length was found: one that has no digits is another head.
        self._known: dict[tuple[bytes, bool], _Head] = {}
        self._heads = Repeats(KNOWN)

    def scope(self, request: Request) -> dict[str, Any] | None:
        """What the head of a request puts into its scope; None when it is not known."""
        known = self._known.get((request.head, request.digits is None))
        if known is None:
            return None
        headers = [*known.headers]
        if request.digits is not None:
            headers[known.length_at] = (b"content-length", request.digits)
        return {**known.scope, "headers": headers}

    def comes_again(self, request: Request) -> bool:
        """Whether this head came before, over whatever connection; one with an id of its own does not."""
        return self._heads.has(request.head)

    def keep(self, request: Request, scope: Mapping[str, Any]) -> None:
        """Remember a head.

        Args:
            request: that was read, alone and whole, with nothing about it that its scope does not say.
            scope: what was made of it.
        """
        headers = [*scope["headers"]]
        if len(headers) > MOST_HEADERS:
            return
        if len(self._known) >= KNOWN:
            self._known.clear()
        length_at = 0 if request.digits is None else headers.index((b"content-length", request.digits))
        head = _Head({name: scope[name] for name in _KEPT}, headers, length_at)
        self._known[request.head, request.digits is None] = head


def split(data: bytes) -> Request | None:
    """Take bytes apart that may be one whole request; None when they are not."""
    end = data.find(_END, 0, HEAD_BYTES)
    if end < 0:
        return None
    begin = end + len(_END)
    found = _LENGTH.search(data, 0, begin)
    if found is None:
        return Request(data, None, begin) if begin == len(data) else None
    digits = found[1]
    if int(digits) != len(data) - begin:
        return None
    return Request(data[: found.start(1)] + data[found.end(1) : begin], digits, begin)
