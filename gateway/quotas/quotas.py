"""Counts what every key asks, by leases from Redis: a request costs no round trip."""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.errors import QuotaExceeded
from gateway.keys.key import Key
from gateway.quotas.account import Account, Refusal
from gateway.quotas.lease import LEASE
from gateway.redis_link import RedisLink
from gateway.redis_node import RedisDown

PREFIX = "inferway:quota:"
_log = structlog.get_logger()


class Quotas:
    """Lets through what the keys' limits allow.

    The next lease is fetched in the background before the last is spent. A gateway that goes holds at most
    one lease unspent, and gives it back; one that is killed takes it along. While Redis is down every gateway
    goes by its own count, and tells Redis afterwards.

    Args:
        link: to Redis; without one, each gateway counts for itself.
        lease_seconds: a lease is what a key's rate allows in this time.
        local_share_ratio: what each gateway lets through by itself while Redis is down; 1 without Redis.
        clock: seconds, monotonic.
        wall_clock: seconds of `time.time()`.
    """

    def __init__(
        self,
        link: RedisLink | None = None,
        *,
        lease_seconds: float = 0.1,
        local_share_ratio: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._script = link.nodes[0].redis.register_script(LEASE) if link else None
        self._lease_seconds = lease_seconds
        self._share_ratio = local_share_ratio if link else 1.0
        self._clock = clock
        self._wall_clock = wall_clock
        self._accounts: dict[str, Account] = {}
        self._leasing: dict[str, asyncio.Task[bool]] = {}
        self._waiting: dict[str, int] = {}

    async def spend(self, key: Key) -> None:
        """Count one request of `key`.

        Raises:
            QuotaExceeded: it is over its rate or its day's number.
        """
        if not key.per_second and not key.per_day:
            return
        account = self._account(key)
        if account.take(self._wall_clock()):
            if account.is_low and self._link is not None and not self._link.is_down:
                self._lease_soon(account)
            return
        await self._wait_for_lease(account)

    async def aclose(self) -> None:
        """Give back what is not spent, and give up the connections."""
        await asyncio.gather(*self._leasing.values())
        if self._link is None:
            return
        for account in self._accounts.values():
            if account.left or account.debt:
                await self._give_back(account)
        await self._link.aclose()

    def _account(self, key: Key) -> Account:
        account = self._accounts.get(key.id)
        is_known = account is not None and (account.key is key or account.key == key)
        return account if account is not None and is_known else self._new(key, account)

    def _new(self, key: Key, old: Account | None) -> Account:
        account = Account(
            key,
            lease_seconds=self._lease_seconds,
            share_ratio=self._share_ratio,
            now=self._clock(),
        )
        if old is not None:
            account.debt = old.debt - old.left
        self._accounts[key.id] = account
        return account

    async def _wait_for_lease(self, account: Account) -> None:
        """Take from the next lease, by its own count if there is no Redis."""
        key_id = account.key.id
        self._waiting[key_id] = self._waiting.get(key_id, 0) + 1
        try:
            while True:
                if refusal := account.refusal(self._clock()):
                    raise _exceeded(account.key, refusal)
                if not await self._has_leased(account):
                    if refusal := account.take_alone(self._clock(), self._wall_clock()):
                        raise _exceeded(account.key, refusal)
                    return
                if account.take(self._wall_clock()):
                    return
        finally:
            self._waiting[key_id] -= 1
            if not self._waiting[key_id]:
                del self._waiting[key_id]

    async def _has_leased(self, account: Account) -> bool:
        """Whether Redis has given a lease, perhaps an empty one; False while there is no Redis."""
        if self._link is None or self._link.is_down:
            return False
        return await asyncio.shield(self._lease_soon(account))

    def _lease_soon(self, account: Account) -> asyncio.Task[bool]:
        """One lease of a key at a time."""
        key_id = account.key.id
        task = self._leasing.get(key_id)
        if task is None:
            task = self._leasing[key_id] = asyncio.create_task(self._lease(account))
            task.add_done_callback(lambda _: self._leasing.pop(key_id))
        return task

    async def _lease(self, account: Account) -> bool:
        """Fetch a lease, perhaps an empty one; False if there is no reply."""
        if account.refusal(self._clock()) is not None:
            return True
        asked = max(account.size - account.left, self._waiting.get(account.key.id, 0))
        try:
            granted, wait_ms, reason = await self._run(account, asked)
        except RedisDown:
            return False
        account.granted(granted, wait_ms / 1000, reason, self._clock())
        return True

    async def _give_back(self, account: Account) -> None:
        unspent, account.left = account.left, 0
        try:
            await self._run(account, 0, given_back=unspent)
        except RedisDown as error:
            _log.warning("quota_not_given_back", key=account.key.id, tokens=unspent, error=str(error))

    async def _run(self, account: Account, asked: int, *, given_back: int = 0) -> tuple[int, int, str]:
        """Run the script: tokens granted, milliseconds to wait, which limit it was."""
        assert self._link is not None and self._script is not None  # noqa: S101, PT018 - its callers look
        key, debt = account.key, account.debt
        numbers = [key.per_second, key.burst, key.per_day, asked, debt - given_back]
        name = PREFIX + key.id
        node = await self._link.node_of(name.encode())
        granted, wait_ms, reason = await node.attempt(self._script, [name], numbers, client=node.redis)
        account.debt -= debt
        return granted, wait_ms, reason.decode()


def _exceeded(key: Key, refusal: Refusal) -> QuotaExceeded:
    limit = (
        f"the quota of {key.per_day} requests a day"
        if refusal.reason == "quota"
        else f"the rate of {key.per_second:g} requests a second"
    )
    return QuotaExceeded(
        f"this key is over {limit}", reason=refusal.reason, retry_after_seconds=refusal.seconds
    )
