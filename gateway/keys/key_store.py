"""Keys in Redis, remembered for a while.

A key that was found stays valid from memory while Redis is down; one that was never seen is refused then.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from gateway.keys.key import Key, KeySpec
from gateway.redis_link import RedisLink
from gateway.redis_node import RedisDown

PREFIX = "inferway:key:"
UNKNOWN_SECONDS = 5.0
"""How long an id that Redis does not have is refused without asking again: so long a new key may take."""
LOOK_UPS = 16
"""Look-ups at a time. Further ones wait here: if strangers' made-up ids used up the connections, Redis would
pass for lost, and keys not seen before would be refused."""
UNKNOWN_MAX = 10_000
"""Unknown ids that are remembered: strangers can make up any number of them."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Known:
    key: Key
    read_at: float


class KeyStore:
    """The keys of one Redis.

    Args:
        link: to Redis.
        fresh_seconds: how long a key is used without asking Redis again. From half of that on it is asked in
            the background, so that a key in use costs no request a round trip.
        clock: seconds, monotonic.
    """

    def __init__(
        self, link: RedisLink, *, fresh_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link = link
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(LOOK_UPS)

    async def find(self, key_id: str) -> Key | None:
        """The key of that id; None where there is none, or Redis is down and it was never seen."""
        known = self._known.get(key_id)
        age = self._clock() - known.read_at if known else float("inf")
        if known and age < self._fresh_seconds:
            if age > self._fresh_seconds / 2 and not self._link.is_down:
                self._read_soon(key_id)
            return known.key
        if self._link.is_down:
            return known.key if known else None
        if self._clock() < self._unknown.get(key_id, 0.0):
            return None
        await asyncio.shield(self._read_soon(key_id))
        known = self._known.get(key_id)
        return known.key if known else None

    async def aclose(self) -> None:
        """Finish what is being read, and give up the connections."""
        await asyncio.gather(*self._reading.values())
        await self._link.aclose()

    def _read_soon(self, key_id: str) -> asyncio.Task[None]:
        """One look-up of an id at a time."""
        task = self._reading.get(key_id)
        if task is None:
            task = self._reading[key_id] = asyncio.create_task(self._read(key_id))
            task.add_done_callback(lambda _: self._reading.pop(key_id))
        return task

    async def _read(self, key_id: str) -> None:
        """Bring what is remembered up to date; while Redis is down it stays as it is."""
        try:
            async with self._turns:
                node = await self._link.node_of((PREFIX + key_id).encode())
                stored = await node.attempt(node.redis.get, PREFIX + key_id)
        except RedisDown:
            return
        key = _parsed(key_id, stored)
        if key is not None:
            self._known[key_id] = _Known(key, self._clock())
            return
        self._known.pop(key_id, None)
        self._unknown[key_id] = self._clock() + UNKNOWN_SECONDS
        self._unknown.move_to_end(key_id)
        if len(self._unknown) > UNKNOWN_MAX:
            self._unknown.popitem(last=False)


def _parsed(key_id: str, stored: bytes | None) -> Key | None:
    if stored is None:
        return None
    try:
        return Key.of(key_id, KeySpec.model_validate_json(stored))
    except ValidationError as error:
        _log.error("key_unreadable", key=key_id, error=str(error).splitlines()[0])
        return None
