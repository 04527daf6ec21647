"""A connection to Redis that nobody waits for when it is down: the cache's, the keys' and the quotas'."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.configuration import ConfigurationError
from gateway.security_settings import RedisSettings

CONNECTIONS = 64
"""Each carries one command at a time: at half a millisecond a round trip, over 100,000 commands a second."""

QUIET_SECONDS = 10.0
"""Of the commands that Redis refuses, one in this time is logged."""

_log = structlog.get_logger()


class RedisDown(Exception):
    """There is no reply: Redis is down, or it refused the command."""


class RedisLink:
    """A Redis.

    After a failure it is left alone for `retry_after_seconds`, so that a dead one costs one short wait now
    and then and not one a request.

    Args:
        url: `redis://` or `rediss://`.
        purpose: whose it is, for the log.
        timeout_seconds: the longest wait for a connection or a reply.
        retry_after_seconds: see above.
        up: set to 1 while it answers and to 0 while it does not.
        ca: for `rediss://`: a file with the CA's certificate; empty for those of the system.
        password: sent at the start of each connection; None where the URL has it, or none is asked for.
        clock: seconds, monotonic.

    Attributes:
        redis: the client, whose commands go through `attempt`.
    """

    def __init__(
        self,
        url: str,
        *,
        purpose: str = "cache",
        timeout_seconds: float,
        retry_after_seconds: float,
        up: Gauge,
        ca: str = "",
        password: str | None = None,
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
        self._purpose = purpose
        self._retry_after_seconds = retry_after_seconds
        self._up = up
        self._clock = clock
        self._down_until = 0.0
        self._quiet_until = 0.0

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
            reply = await command(*args, **options)
        except ResponseError as error:
            # It answers, and refuses this command: full without eviction, or read-only. What it has is still
            # worth asking for.
            refusal = error
        except (RedisError, OSError, TimeoutError) as error:
            if self._down_until == 0.0:
                _log.warning("redis_lost", purpose=self._purpose, error=str(error))
            self._down_until = self._clock() + self._retry_after_seconds
            self._up.set(0)
            raise RedisDown(str(error)) from error
        if self._down_until:
            _log.info("redis_back", purpose=self._purpose)
            self._down_until = 0.0
        self._up.set(1)
        if refusal is not None:
            if self._clock() >= self._quiet_until:
                _log.warning("redis_refused", purpose=self._purpose, error=str(refusal))
                self._quiet_until = self._clock() + QUIET_SECONDS
            raise RedisDown(str(refusal)) from refusal
        return reply

    async def ping(self) -> bool:
        """Whether it answers; keeps the metric true while there is no traffic."""
        try:
            return bool(await self.attempt(self.redis.ping))
        except RedisDown:
            return False

    async def aclose(self) -> None:
        """Give up the connections."""
        await self.redis.aclose()


def open_link(
    settings: RedisSettings, root: Path, *, purpose: str, up: Gauge, registry: CollectorRegistry
) -> RedisLink | None:
    """The Redis of a section, not yet connected; None when the section names none.

    Args:
        settings: the section.
        root: what its files are relative to.
        purpose: `cache`, `keys` or `quotas`.
        up: see RedisLink.
        registry: where `up` is registered if there is a Redis: a 0 without one would look like a loss.

    Raises:
        ConfigurationError: a file of it cannot be read.
    """
    if not settings.url:
        return None
    ca = root / settings.ca if settings.ca else None
    password = root / settings.password_file if settings.password_file else None
    for path in filter(None, (ca, password)):
        if not path.is_file():
            raise ConfigurationError(f"{purpose}: redis: there is no file {path}")
    registry.register(up)
    return RedisLink(
        settings.url,
        purpose=purpose,
        timeout_seconds=settings.timeout_seconds,
        retry_after_seconds=settings.retry_after_seconds,
        up=up,
        ca=str(ca) if ca else "",
        password=password.read_text(encoding="utf-8").strip() if password else None,
    )
