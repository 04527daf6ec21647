"""Membership: the endpoints of one entry of the settings come and go as its source says."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from gateway.backends import Backend
from gateway.balancing.address_sources import LookupFailed, Source
from gateway.balancing.balancer import Balancer
from gateway.balancing.discovery import change
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.health_check import HealthCheck
from gateway.inference import PoolKey

_log = structlog.get_logger()

OK, FAILED, EMPTY = "ok", "failed", "empty"
"""What comes of a look-up; the last two change nothing."""
FIRST_SECONDS = 3.0
"""How long `start` waits for the first look-up: a name server that is away must not keep the gateway from
listening, for there are other entries."""
DRAIN_SECONDS = 0.1
"""How often an endpoint that goes is looked at, whether it has answered everything."""


@dataclass(frozen=True, slots=True)
class FilledPool:
    """A pool that an entry is part of.

    Attributes:
        key: what it serves; a shadow's may serve the same as another.
        pool: the pool.
        new_endpoint: what it knows about an endpoint that appears, by its name and client.
    """

    key: PoolKey
    pool: Balancer
    new_endpoint: Callable[[str, Backend], Endpoint]


@dataclass(frozen=True, slots=True)
class Opened:
    """The client of an address.

    Attributes:
        backend: the client itself.
        release: needs it no more; awaited once.
    """

    backend: Backend
    release: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """One address: its client, which all pools share, and what each pool knows about it, in their order."""

    client: Opened
    endpoints: Sequence[Endpoint]


class Membership:
    """Adds the endpoints that appear and removes those that are gone, without failing a request.

    One that appears takes no traffic before the health check has warmed it up. One that goes takes no new
    request; its client is released once it has answered those in flight.

    Args:
        entry: its name in the settings. Endpoints are named `entry/address`.
        source: where its addresses are found.
        pools: those that it is part of.
        open_client: the client of an address, by the endpoint's name and the address.
        health: asks whether endpoints are ready.
        drained: the names of endpoints that an operator has drained: one of them that comes back still is.
        interval_seconds: between two look-ups.
        lookups: counts them by entry and result.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        entry: str,
        *,
        source: Source,
        pools: Sequence[FilledPool],
        open_client: Callable[[str, str], Opened],
        health: HealthCheck,
        drained: Collection[str],
        interval_seconds: float,
        lookups: Counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._entry = entry
        self._source = source
        self._pools = pools
        self._open_client = open_client
        self._health = health
        self._drained = drained
        self._interval_seconds = interval_seconds
        self._lookups = {result: lookups.labels(entry, result) for result in (OK, FAILED, EMPTY)}
        self._sleep = sleep
        self._members: dict[str, _Member] = {}
        self._trouble = ""  # what was said of the latest look-up, so that it is said once
        self._task: asyncio.Task[None] | None = None
        self._leaving: dict[_Member, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Keep looking until `stop`; return after the first look-up, or when it is slow."""
        first = asyncio.Event()
        self._task = asyncio.create_task(self._keep_looking(first))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await first.wait()

    async def stop(self) -> None:
        """Look and ask no more, and release every client; calls under way at those that close are cancelled.

        The endpoints stay in their pools, and their metrics: a configuration that takes over has the same.
        """
        tasks = [*self._leaving.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for member in self._members.values():
            for endpoint in member.endpoints:
                self._health.unwatch(endpoint)
        for member in [*self._members.values(), *self._leaving]:
            await member.client.release()

    async def look(self) -> None:
        """Look once, and change what is to be changed."""
        try:
            found = await self._source()
        except LookupFailed as error:
            self._count(FAILED, str(error))
            return
        self._count(EMPTY if not found else OK, "no address was found" if not found else "")
        changed = change(self._members, found)
        for address in changed.appeared:
            self._join(address)
        for address in changed.gone:
            _log.info("endpoint_gone", endpoint=self._name(address))
            member = self._leave(address)
            self._leaving[member] = asyncio.create_task(self._close(member))

    async def _keep_looking(self, first: asyncio.Event) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - one look-up's trouble must not end the looking
                _log.exception("discovery_broke", entry=self._entry)
            first.set()
            await self._sleep(self._interval_seconds)

    def _count(self, result: str, trouble: str) -> None:
        """Count a look-up; log what is wrong, or well again, once."""
        self._lookups[result].inc()
        if trouble != self._trouble:
            kept = len(self._members)
            if trouble:
                _log.warning("discovery_failed", entry=self._entry, error=trouble, endpoints_kept=kept)
            else:
                _log.info("discovery_recovered", entry=self._entry)
        self._trouble = trouble

    def _join(self, address: str) -> None:
        name = self._name(address)
        client = self._open_client(name, address)
        endpoints = [filled.new_endpoint(name, client.backend) for filled in self._pools]
        self._members[address] = _Member(client, endpoints)
        _log.info("endpoint_discovered", endpoint=name)
        for filled, endpoint in zip(self._pools, endpoints, strict=True):
            if name in self._drained:
                endpoint.is_draining = True
            filled.pool.add(endpoint)
            self._health.watch(filled.key, endpoint)

    def _leave(self, address: str) -> _Member:
        member = self._members.pop(address)
        for filled, endpoint in zip(self._pools, member.endpoints, strict=True):
            self._health.unwatch(endpoint)
            filled.pool.remove(endpoint.name)
        return member

    async def _close(self, member: _Member) -> None:
        """Release the client once nothing is in flight; each attempt ends at its own timeout."""
        while any(endpoint.in_flight for endpoint in member.endpoints):
            await self._sleep(DRAIN_SECONDS)
        await member.client.release()
        del self._leaving[member]

    def _name(self, address: str) -> str:
        return f"{self._entry}/{address}"
