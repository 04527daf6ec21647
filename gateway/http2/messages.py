"""gRPC's messages out of the bytes of one stream (PROTOCOL-HTTP2.md, Length-Prefixed-Message)."""

from collections import deque
from typing import NamedTuple

from grpc import StatusCode

from gateway.http2.call import PREFIX_BYTES, CallFailed

SHORT_BYTES = 1024
"""Shorter pieces are put together at once: a message of 64 MiB may come in pieces of 2 bytes, each of which
takes 50."""


class Compressed(NamedTuple):
    """A message that is still compressed, as the call's headers say.

    Attributes:
        data: as it came.
    """

    data: bytes


Message = bytes | Compressed


class Messages:
    """What has come of a stream and was not taken yet.

    Args:
        limit: the largest message in bytes.

    Attributes:
        limit: the same; what is compressed may expand to as much.
        whole: messages that are.
        held_bytes: of all that is here, prefixes included.
    """

    __slots__ = ("_is_compressed", "_missing", "_pieces", "_prefix", "held_bytes", "limit", "whole")

    def __init__(self, limit: int) -> None:
        self.whole: deque[Message] = deque()
        self.held_bytes = 0
        self.limit = limit
        self._prefix = b""
        self._missing = -1  # of a message's prefix
        self._pieces: list[bytes | bytearray] = []
        self._is_compressed = False

    @property
    def missing_bytes(self) -> int:
        """How many more a message needs that has begun; 0 in between."""
        if self._missing >= 0:
            return self._missing
        return PREFIX_BYTES - len(self._prefix) if self._prefix else 0

    def take(self) -> Message:
        """The first whole one, which there must be."""
        message = self.whole.popleft()
        self.held_bytes -= PREFIX_BYTES + len(message.data if isinstance(message, Compressed) else message)
        return message

    def add(self, piece: bytes) -> None:
        """Take what came next.

        Raises:
            CallFailed: a message is too large, or not in gRPC's form.
        """
        self.held_bytes += len(piece)
        at = 0
        while at < len(piece):
            if self._missing < 0:
                at = self._begin(piece, at)
                continue
            part = piece[at : at + self._missing]
            at += len(part)
            self._missing -= len(part)
            if not self._missing:
                self._pieces.append(part)
                self._end()
            elif len(part) >= SHORT_BYTES:
                self._pieces.append(part)
            elif self._pieces and isinstance(self._pieces[-1], bytearray):
                self._pieces[-1] += part
            else:
                self._pieces.append(bytearray(part))

    def _begin(self, piece: bytes, at: int) -> int:
        """Read a prefix, or keep what there is of it; where the message begins."""
        had = len(self._prefix)
        prefix = self._prefix + piece[at : at + PREFIX_BYTES - had]
        at += len(prefix) - had
        if len(prefix) < PREFIX_BYTES:
            self._prefix = prefix
            return at
        self._prefix = b""
        if prefix[0] > 1:
            raise CallFailed(StatusCode.INTERNAL, f"Bad GRPC frame type 0x{prefix[0]:02x}")
        size = int.from_bytes(prefix[1:], "big")
        if size > self.limit:
            text = f"SERVER: Received message larger than max ({size} vs. {self.limit})"
            raise CallFailed(StatusCode.RESOURCE_EXHAUSTED, text)
        self._is_compressed, self._missing = bool(prefix[0]), size
        if not size:
            self._end()
        return at

    def _end(self) -> None:
        data = bytes(self._pieces[0]) if len(self._pieces) == 1 else b"".join(self._pieces)
        self.whole.append(Compressed(data) if self._is_compressed else data)
        self._pieces, self._missing = [], -1
