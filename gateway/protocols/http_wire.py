"""The wire form of a call: all that its answer depends on, without being read."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.protocols.edge import PRIORITY, VARIANT
from gateway.protocols.oip_request import HEADER_LENGTH
from gateway.protocols.wire_content import BINARY_BYTES, content_of

_PRIORITY = PRIORITY.encode()
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
_VARIANT = VARIANT.encode()


class Wire(NamedTuple):
    """All that the answer of a call to infer depends on.

    Attributes:
        route: the route's path, with the names of its parameters.
        model: of the path.
        version: of the path, empty without one.
        variant: that header; None without one, as below.
        content_type: that header.
        header_length: `Inference-Header-Content-Length`.
        body_bytes: the body's length.
        content: a short body itself, else its digest.
    """

    route: str
    model: str
    version: str
    variant: bytes | None
    content_type: bytes | None
    header_length: bytes | None
    body_bytes: int
    content: bytes

    @property
    def held_bytes(self) -> int:
        """What it holds beside names."""
        return len(self.variant or b"") + len(self.content_type or b"") + len(self.content)


def wire_form(
    route: str, path: Mapping[str, str], headers: Mapping[bytes, bytes], query: bytes, body: bytes
) -> Wire | None:
    """The wire form of a call to infer: equal for two only if they ask one configuration for the same.

    None for what had better be read: a priority, which may be malformed; a query; a label, which may move; a
    large binary body. Whose id it is and how long it may take are not in it, see `Recall.keep` for ids.

    Args:
        route: the route's path, with the names of its parameters.
        path: those parameters.
        headers: names in lower case, the last of several wins.
        query: the query string.
        body: the whole body, expanded.
    """
    length = headers.get(_HEADER_LENGTH)
    is_large = length is not None and len(body) > BINARY_BYTES
    if query or is_large or _PRIORITY in headers or "label" in path:
        return None
    return Wire(
        route,
        path.get("model", ""),
        path.get("version", ""),
        headers.get(_VARIANT),
        headers.get(b"content-type"),
        length,
        len(body),
        content_of(body),
    )
