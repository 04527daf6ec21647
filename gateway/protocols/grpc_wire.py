"""The wire form of a unary gRPC call: all that its answer depends on, without being read."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.protocols.edge import PRIORITY, VARIANT
from gateway.protocols.wire_content import BINARY_BYTES, content_of


class Wire(NamedTuple):
    """All that the answer of a call to infer depends on.

    Attributes:
        path: of the method.
        variant: that metadata; None without it.
        message_bytes: the message's length.
        content: a short message itself, else its digest.
    """

    path: str
    variant: str | None
    message_bytes: int
    content: bytes

    @property
    def held_bytes(self) -> int:
        """What it holds beside names."""
        return len(self.variant or "") + len(self.content)


def wire_form(path: str, metadata: Mapping[str, str], message: bytes) -> Wire | None:
    """The wire form of a call.

    None for what had better be read: a priority, which may be malformed, or a large message.

    Args:
        path: of the method.
        metadata: names in lower case, the last of several wins.
        message: serialised.
    """
    if PRIORITY in metadata or len(message) > BINARY_BYTES:
        return None
    return Wire(path, metadata.get(VARIANT), len(message), content_of(message))
