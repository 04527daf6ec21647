"""The header blocks of a client's calls, read once if they come again."""

from grpc import StatusCode

from gateway.http2.header_blocks import Field, HeaderBlocks
from gateway.http2.request_head import Head, Malformed, Refusal, check_trailers, read_head

KNOWN_BLOCKS = 16
KNOWN_BLOCK_BYTES = 1024
"""How many are remembered, and how long they may be: most calls of a client have one of a few."""


class Heads:
    """What the header blocks of one connection mean.

    Equal blocks mean equal headers as long as the client's table has not changed. Once it has its fields,
    such as those of gRPC's own clients, it does so seldom, and a block is a few bytes.

    Args:
        limit: of one block's fields, as HTTP/2 counts their bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks = HeaderBlocks()
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """A call's headers.

        Raises:
            Malformed: HTTP/2 does not allow them.
            ProtocolError: it is no block.
        """
        head = self._known.get(block)
        if head is not None:
            return head
        fields, size = self._read(block)
        if size > self._limit:
            text = f"received metadata size exceeds limit ({size} vs. {self._limit})"
            return Head("", {}, refusal=Refusal(StatusCode.RESOURCE_EXHAUSTED, text))
        head = read_head(fields)
        if len(block) <= KNOWN_BLOCK_BYTES and not self._blocks.has_changed:
            self._known[block] = head
        return head

    def read_trailers(self, block: bytes) -> bool:
        """Whether trailers are allowed ones; of those that nobody waits for, too, since they fill the table.

        Raises:
            ProtocolError: it is no block.
        """
        try:
            check_trailers(self._read(block)[0])
        except Malformed:
            return False
        return True

    def _read(self, block: bytes) -> tuple[list[Field], int]:
        read = self._blocks.read(block, self._limit)
        if self._blocks.has_changed or len(self._known) >= KNOWN_BLOCKS:
            self._known.clear()
        return read
