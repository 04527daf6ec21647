"""The second tier: Redis, shared by every gateway process, and never waited for when it is down."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import Gauge
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.inference import InferResponse
from gateway.tensor_frame import FrameError, pack, unpack

PREFIX = b"inferway:1:"
"""Namespace and layout version of the entries: another layout takes another number and finds nothing."""

CONNECTIONS = 64
"""Each carries one command at a time: at half a millisecond a round trip, over 100,000 commands a second."""

QUIET_SECONDS = 10.0
"""Of the commands that Redis refuses, one in this time is logged."""

_log = structlog.get_logger()


class RedisStore:
    """Answers as tensor frames in Redis; fails open.

    After a failure Redis is left alone for `retry_after_seconds`, so that a dead one costs one short wait
    now and then and not one a request.

    Args:
        url: `redis://` or `rediss://`.
        timeout_seconds: the longest wait for a connection or a reply.
        retry_after_seconds: see above.
        up: set to 1 while it answers and to 0 while it does not.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        retry_after_seconds: float,
        up: Gauge,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A pool that waits for a free connection: the usual one fails when they are all busy, which looks as
        # if Redis were down. One attempt only: a second would hold up a request for what it can do without.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._retry_after_seconds = retry_after_seconds
        self._up = up
        self._clock = clock
        self._down_until = 0.0
        self._quiet_until = 0.0
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, key: bytes, /) -> InferResponse | None:
        """The answer under `key`; None when it is not there, not readable, or Redis is down."""
        frame = await self._try(self._redis.get, PREFIX + key)
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
        write = asyncio.create_task(self._write(PREFIX + key, frame, milliseconds))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def ping(self) -> bool:
        """Whether Redis answers; keeps the metric true while there is no traffic."""
        return bool(await self._try(self._redis.ping))

    async def aclose(self) -> None:
        """Finish the writes under way and give up the connections."""
        await asyncio.gather(*self._writes)
        await self._redis.aclose()

    async def _write(self, key: bytes, frame: bytes, milliseconds: int) -> None:
        await self._try(self._redis.set, key, frame, px=milliseconds)

    async def _try(self, command: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A command's reply, or None if Redis is down or refuses it."""
        if self._clock() < self._down_until:
            return None
        if self._down_until:
            # One command sees whether it is back; meanwhile the others are not to wait for what may hang.
            self._down_until = self._clock() + self._retry_after_seconds
        reply = None
        try:
            reply = await command(*args, **options)
        except ResponseError as error:
            # It answers, and refuses this command: full without eviction, or read-only. What it has is still
            # worth asking for.
            if self._clock() >= self._quiet_until:
                _log.warning("redis_refused", error=str(error))
                self._quiet_until = self._clock() + QUIET_SECONDS
        except (RedisError, OSError, TimeoutError) as error:
            if self._down_until == 0.0:
                _log.warning("redis_lost", error=str(error))
            self._down_until = self._clock() + self._retry_after_seconds
            self._up.set(0)
            return None
        if self._down_until:
            _log.info("redis_back")
            self._down_until = 0.0
        self._up.set(1)
        return reply
