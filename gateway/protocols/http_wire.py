"""The wire form of a call: all that its answer depends on, without being read."""

from collections.abc import Mapping

from blake3 import blake3

from gateway.protocols.edge import PRIORITY, VARIANT
from gateway.protocols.oip_request import HEADER_LENGTH

SHORT_BYTES = 4096
"""A body up to this size stands for itself: to hash 3 kB for a dictionary takes 1.2 us, to digest it 3.6."""
BINARY_BYTES = 128 * 1024
"""Of a larger binary body another digest (20 us for so many) costs a miss as much as it saves a hit."""
_PRIORITY = PRIORITY.encode()
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
_READ = (VARIANT.encode(), b"content-type", _HEADER_LENGTH)
"""The headers that an edge may look at to find out what is asked."""

Wire = tuple[str, str, str, bytes, int, bytes]
"""Route, model, version, headers, length of the body, and the body or its digest."""


def wire_form(
    route: str, path: Mapping[str, str], headers: Mapping[bytes, bytes], query: bytes, body: bytes
) -> Wire | None:
    """The wire form of a call to infer: equal for two only if they ask one configuration for the same.

    None for what had better be read: a priority, which may be malformed; a query; a label, which may move; a
    large binary body. Whose id it is and how long it may take are not in it, see `Recall.keep` for ids.

    Args:
        route: the route's path, with the names of its parameters.
        path: those parameters.
        headers: names in lower case, the last of several wins. None has a line end (RFC 9110, 5.5), so that
            no two calls can spell the same bytes.
        query: the query string.
        body: the whole body, expanded.
    """
    is_large = len(body) > BINARY_BYTES and _HEADER_LENGTH in headers
    if query or is_large or _PRIORITY in headers or "label" in path:
        return None
    head = b"\n".join([headers.get(name, b"\n") for name in _READ])
    content = body if len(body) <= SHORT_BYTES else blake3(body).digest()
    return route, path.get("model", ""), path.get("version", ""), head, len(body), content


def held_bytes(wire: Wire) -> int:
    """What a wire form holds beside names."""
    return len(wire[3]) + len(wire[5])
