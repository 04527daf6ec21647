"""The second tier: Redis, shared by every gateway process, and never waited for when it is down."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from gateway.inference import InferResponse
from gateway.redis_link import RedisDown, RedisLink
from gateway.tensor_frame import FrameError, pack, unpack

PREFIX = b"inferway:2:"
"""Namespace and layout version of the entries: another layout takes another number and finds nothing. The
model's name follows, so that its entries can be found, and then the content key."""

SCAN_COUNT = 1000
"""Keys that Redis looks at for one SCAN: a few hundred microseconds, in which it does nothing else."""

_log = structlog.get_logger()


class RedisStore:
    """Answers as tensor frames in Redis; fails open.

    Args:
        link: to Redis.

    Attributes:
        voids: how often answers were voided.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._redis = link.redis
        self._writes: set[asyncio.Task[None]] = set()
        self.voids = 0

    async def get(self, model: str, key: bytes, /) -> InferResponse | None:
        """The answer under `key`; None when it is not there, not readable, or Redis is down."""
        frame = await self._try(self._redis.get, _prefix(model) + key)
        if frame is None:
            return None
        try:
            meta, outputs = unpack(frame)
            return InferResponse(
                model=meta["model"],
                version=meta["version"],
                variant=meta["variant"],
                backend=meta["backend"],
                endpoint=meta["endpoint"],
                parameters=meta["parameters"],
                expires_at=meta["expires_at"],
                outputs=outputs,
            )
        except (FrameError, KeyError) as error:
            _log.warning("cache_entry_unreadable", key=key.hex(), error=str(error))
            return None

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        """Send an answer on its way; the caller does not wait for Redis to have it."""
        meta = {
            "model": response.model,
            "version": response.version,
            "variant": response.variant,
            "backend": response.backend,
            "endpoint": response.endpoint,
            "parameters": dict(response.parameters),
            "expires_at": response.expires_at,
        }
        frame = pack(meta, response.outputs)
        milliseconds = max(1, int(ttl_seconds * 1000))
        write = asyncio.create_task(self._write(_prefix(response.model) + key, frame, milliseconds))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def settle(self) -> None:
        """Keep no answer that is computed now, and wait for those that are on their way to Redis.

        Before a model is voided, every process does this: else one from before might arrive after.
        """
        self.voids += 1
        await asyncio.gather(*self._writes)

    async def void(self, model: str) -> int | None:
        """Drop every answer of a model, for all gateways; how many there were, or None if Redis is down.

        SCAN goes over every key of the database a thousand at a time, other commands in between, and UNLINK
        frees the memory in a thread of its own (https://redis.io/docs/latest/commands/scan/).
        """
        dropped, cursor = 0, 0
        pattern = _prefix(model) + b"*"  # a model's name has nothing that a pattern gives a meaning
        while True:
            page = await self._try(self._redis.scan, cursor, match=pattern, count=SCAN_COUNT)
            if page is None:
                return None
            cursor, keys = page
            if keys:
                gone = await self._try(self._redis.unlink, *keys)
                if gone is None:
                    return None
                dropped += gone
            if cursor == 0:
                return dropped

    async def aclose(self) -> None:
        """Finish the writes under way and give up the connections."""
        await asyncio.gather(*self._writes)
        await self._link.aclose()

    async def _write(self, key: bytes, frame: bytes, milliseconds: int) -> None:
        await self._try(self._redis.set, key, frame, px=milliseconds)

    async def _try(self, command: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A command's reply, or None if Redis is down or refuses it."""
        try:
            return await self._link.attempt(command, *args, **options)
        except RedisDown:
            return None


def _prefix(model: str) -> bytes:
    return PREFIX + model.encode() + b":"
