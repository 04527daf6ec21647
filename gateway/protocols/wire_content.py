"""What stands for a body in a wire form."""

from blake3 import blake3

SHORT_BYTES = 4096
"""A body up to this size stands for itself: to hash 3 kB for a dictionary takes 1.2 us, to digest it 3.6."""
BINARY_BYTES = 128 * 1024
"""Of a larger binary body another digest (20 us for so many) costs a miss as much as it saves a hit."""


def content_of(body: bytes) -> bytes:
    """A short body itself, else its digest. With the length beside it, no two bodies have the same."""
    return body if len(body) <= SHORT_BYTES else blake3(body).digest()
