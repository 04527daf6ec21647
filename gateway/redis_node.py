"""One Redis that nobody waits for when it is down: all that there is, or one node of a cluster."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

CONNECTIONS = 64
"""Each carries one command, or several joined, at a time."""

QUIET_SECONDS = 10.0
"""Of the commands that Redis refuses, one in this time is logged."""

_log = structlog.get_logger()


class RedisDown(Exception):
    """There is no reply: Redis is down, or it refused the command."""


class RedisNode:
    """One Redis.

    After a failure it is left alone for `retry_after_seconds`, so that a dead one costs one short wait now
    and then and not one a request.

    Args:
        url: `redis://` or `rediss://`.
        purpose: whose it is, for the log.
        timeout_seconds: the longest that a command takes, its wait for a connection included.
        retry_after_seconds: see above.
        tell_up: told 1 when it begins to answer, and 0 when it ceases to.
        ca: for `rediss://`: a file with the CA's certificate; empty for those of the system.
        password: sent at the start of each connection; None where the URL has it, or none is asked for.
        in_cluster: whether it has some of a cluster's slots: one command may then not name several keys.
        clock: seconds, monotonic.

    Attributes:
        redis: the client, whose commands go through `attempt`.
        url: as above.
        is_up: whether it answered last.
    """

    def __init__(
        self,
        url: str,
        *,
        purpose: str = "cache",
        timeout_seconds: float,
        retry_after_seconds: float,
        tell_up: Callable[[float], None],
        ca: str = "",
        password: str | None = None,
        in_cluster: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A pool that waits for a free connection: the usual one fails when they are all busy, which looks as
        # if Redis were down. One attempt only: a second would hold up a request for what it can do without.
        more: dict[str, Any] = {"ssl_ca_certs": ca} if ca else {}
        if password is not None:
            more["password"] = password
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            **more,
        )
        self.redis: Redis = Redis.from_pool(pool)
        self.url = url
        self.is_up = False
        self._purpose = purpose
        self._timeout_seconds = timeout_seconds
        self._retry_after_seconds = retry_after_seconds
        self._tell_up = tell_up
        self._in_cluster = in_cluster
        self._clock = clock
        self._down_until = 0.0
        self._quiet_until = 0.0

    @property
    def address(self) -> str:
        """Host and port, for the log: the URL may hold a password."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def nodes(self) -> Sequence[Self]:
        """Itself: it has every key."""
        return (self,)

    async def node_of(self, _key: bytes) -> Self:
        """Itself."""
        return self

    @property
    def is_down(self) -> bool:
        """Whether it has failed just now and is left alone."""
        return self._clock() < self._down_until

    async def attempt(self, command: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A command's reply.

        Raises:
            RedisDown: it is down, or refuses the command.
        """
        if self.is_down:
            raise RedisDown("it failed a moment ago")
        if self._down_until:
            # One command sees whether it is back; meanwhile the others are not to wait for what may hang.
            self._down_until = self._clock() + self._retry_after_seconds
        refusal: ResponseError | None = None
        reply = None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                reply = await command(*args, **options)
        except ResponseError as error:
            # It answers, and refuses this command: full without eviction, or read-only. What it has is still
            # worth asking for.
            refusal = error
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(str(error) or f"no reply within {self._timeout_seconds:g} s")
            raise RedisDown(str(error)) from error
        self._answered()
        if refusal is not None:
            self._refused(refusal)
            raise RedisDown(str(refusal)) from refusal
        return reply

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys; None for each that it does not have.

        Raises:
            RedisDown: it is down, or refuses the command.
        """
        if self._in_cluster:
            return await self._together(("GET", key) for key in keys)
        values: list[bytes | None] = await self.attempt(self.redis.mget, keys)
        return values

    async def set_many(self, entries: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Set keys, values and how many milliseconds each is kept; what is refused is logged.

        Raises:
            RedisDown: it is down.
        """
        await self._together(("SET", key, value, "PX", kept) for key, value, kept in entries)

    async def unlink_many(self, keys: Sequence[bytes]) -> int:
        """Delete keys; how many there were.

        Raises:
            RedisDown: it is down, or refuses.
        """
        if not self._in_cluster:
            return int(await self.attempt(self.redis.unlink, *keys))
        gone = await self._together(("UNLINK", key) for key in keys)
        if None in gone:
            raise RedisDown("it has refused to delete a key")
        return sum(gone)

    async def _together(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """The replies to commands that are sent at once; None for each that is refused."""
        pipeline = self.redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies = await self.attempt(pipeline.execute, raise_on_error=False)
        for reply in replies:
            if isinstance(reply, ResponseError):
                self._refused(reply)
        return [None if isinstance(reply, ResponseError) else reply for reply in replies]

    async def ping(self) -> bool:
        """Whether it answers; keeps the metric true while there is no traffic."""
        try:
            return bool(await self.attempt(self.redis.ping))
        except RedisDown:
            return False

    async def aclose(self) -> None:
        """Give up the connections."""
        await self.redis.aclose()

    def _lost(self, why: str) -> None:
        if self._down_until == 0.0:
            _log.warning("redis_lost", purpose=self._purpose, address=self.address, error=why)
        self._down_until = self._clock() + self._retry_after_seconds
        self._tell(is_up=False)

    def _answered(self) -> None:
        if self._down_until:
            _log.info("redis_back", purpose=self._purpose, address=self.address)
            self._down_until = 0.0
        self._tell(is_up=True)

    def _tell(self, *, is_up: bool) -> None:
        if is_up is not self.is_up:
            self.is_up = is_up
            self._tell_up(float(is_up))

    def _refused(self, error: ResponseError) -> None:
        if self._clock() >= self._quiet_until:
            _log.warning("redis_refused", purpose=self._purpose, address=self.address, error=str(error))
            self._quiet_until = self._clock() + QUIET_SECONDS
