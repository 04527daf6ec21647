"""The first tier: this process's memory, bounded in bytes. What was asked for once makes room first.

S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction, SOSP 2023): an answer
begins in a small queue, a tenth of the room, and goes on to the main one only if it was asked for again
before its turn came. The main queue gives what was asked for another round. Keys that the small queue let go
are remembered; one of them that comes back is at once in the main queue. So a scan of inputs that nobody asks
for twice passes through a tenth of the room, and a hit counts and moves nothing. Why this one:
docs/decisions/0011-memory-tier.md.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.inference import InferResponse

ENTRY_OVERHEAD_BYTES = 1400
"""What an entry costs beside its tensors' bytes: key, response, its place in a queue, and another key that is
remembered (measured with `tracemalloc` over 10,000 answers of one tensor: 1,311 bytes)."""

SMALL_RATIO = 0.1
"""The small queue's share of the room; the paper's."""

USES_MAX = 3
"""Further uses of an answer are not counted; the paper's."""

VOID_STEP = 2000
"""Entries that a void looks at before it lets requests go on: a millisecond or two."""


@dataclass(slots=True)
class _Entry:
    response: InferResponse
    expires: float
    size_bytes: int
    uses: int = 0


class MemoryStore:
    """Answers in two queues.

    Args:
        limit_bytes: how much it may hold; 0 keeps nothing.
        clock: seconds, monotonic.

    Attributes:
        size_bytes: what it holds.
        answers_at_once: nothing is waited for.
        voids: how often answers were voided.
    """

    def __init__(self, limit_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._small: OrderedDict[bytes, _Entry] = OrderedDict()
        self._main: OrderedDict[bytes, _Entry] = OrderedDict()
        self._small_bytes = 0
        self._let_go: OrderedDict[bytes, None] = OrderedDict()
        self.size_bytes = 0
        self.answers_at_once = True
        self.voids = 0

    async def get(self, _model: str, key: bytes, /) -> InferResponse | None:
        """The answer under `key`, or None when it is not there or has expired."""
        entry = self._main.get(key) or self._small.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self._drop(key)
            return None
        if entry.uses < USES_MAX:
            entry.uses += 1
        return entry.response

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        """Keep an answer, and make room for it."""
        tensors_bytes = sum([len(tensor.data) for tensor in response.outputs])
        size_bytes = tensors_bytes + ENTRY_OVERHEAD_BYTES
        if size_bytes > self._limit_bytes:
            return
        self._drop(key)
        now = self._clock()
        while self.size_bytes + size_bytes > self._limit_bytes:
            self._make_room(now)
        entry = _Entry(response, now + ttl_seconds, size_bytes)
        self.size_bytes += size_bytes
        if key in self._let_go:
            del self._let_go[key]
            self._main[key] = entry
        else:
            self._small[key] = entry
            self._small_bytes += size_bytes

    async def void(self, model: str) -> int:
        """Drop every answer of a model; how many there were. Requests are answered in between."""
        self.voids += 1
        keys, dropped = [*self._small, *self._main], 0
        for start in range(0, len(keys), VOID_STEP):
            for key in keys[start : start + VOID_STEP]:
                entry = self._main.get(key) or self._small.get(key)
                if entry is not None and entry.response.model == model:
                    self._drop(key)
                    dropped += 1
            await asyncio.sleep(0)
        return dropped

    def _make_room(self, now: float) -> None:
        """Take the oldest entry of a queue: it goes on or ends."""
        if not self._main or self._small_bytes > SMALL_RATIO * self._limit_bytes:
            key, entry = self._small.popitem(last=False)
            self._small_bytes -= entry.size_bytes
            if entry.uses and entry.expires > now:
                entry.uses = 0
                self._main[key] = entry
                return
            self._let_go[key] = None
            if len(self._let_go) > len(self._small) + len(self._main):
                self._let_go.popitem(last=False)
        else:
            key, entry = self._main.popitem(last=False)
            if entry.uses and entry.expires > now:
                entry.uses -= 1
                self._main[key] = entry
                return
        self.size_bytes -= entry.size_bytes

    def _drop(self, key: bytes) -> None:
        entry = self._small.pop(key, None)
        if entry is not None:
            self._small_bytes -= entry.size_bytes
        else:
            entry = self._main.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
