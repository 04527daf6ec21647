"""The first tier: this process's memory, least recently used out first, bounded in bytes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from gateway.inference import InferResponse

ENTRY_OVERHEAD_BYTES = 1200
"""What an entry costs beside its tensors' bytes: key, response, tuple and dict slots (measured with
`tracemalloc` over 10,000 answers of one tensor: 1,130 bytes)."""

VOID_STEP = 2000
"""Entries that a void looks at before it lets requests go on: a millisecond or two."""


class _Entry(NamedTuple):
    response: InferResponse
    expires: float
    size_bytes: int


class MemoryStore:
    """An LRU of answers.

    Args:
        limit_bytes: how much it may hold; 0 keeps nothing.
        clock: seconds, monotonic.

    Attributes:
        size_bytes: what it holds.
        voids: how often answers were voided.
    """

    def __init__(self, limit_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.size_bytes = 0
        self.voids = 0

    async def get(self, _model: str, key: bytes, /) -> InferResponse | None:
        """The answer under `key`, or None when it is not there or has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.response

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        """Keep an answer; make room by dropping what was not used for longest."""
        tensors_bytes = sum(len(tensor.data) for tensor in response.outputs)
        size_bytes = tensors_bytes + ENTRY_OVERHEAD_BYTES
        if size_bytes > self._limit_bytes:
            return
        if key in self._entries:
            self._drop(key)
        self._entries[key] = _Entry(response, self._clock() + ttl_seconds, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._limit_bytes:
            self._drop(next(iter(self._entries)))

    async def void(self, model: str) -> int:
        """Drop every answer of a model; how many there were. Requests are answered in between."""
        self.voids += 1
        keys, dropped = list(self._entries), 0
        for start in range(0, len(keys), VOID_STEP):
            for key in keys[start : start + VOID_STEP]:
                entry = self._entries.get(key)
                if entry is not None and entry.response.model == model:
                    self._drop(key)
                    dropped += 1
            await asyncio.sleep(0)
        return dropped

    def _drop(self, key: bytes) -> None:
        self.size_bytes -= self._entries.pop(key).size_bytes
