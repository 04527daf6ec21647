"""The endpoints that the settings leave to be looked up: their clients, and what fills pools with them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.backends import Backend
from gateway.backends.channel_tls import ChannelTls
from gateway.balancing.address_sources import DnsSource, FileSource
from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.health_check import HealthCheck
from gateway.balancing.membership import FilledPool, Membership, Opened
from gateway.contract import Contract
from gateway.endpoints import kept_endpoint, new_client
from gateway.handover import Client, Use
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.settings import EndpointSettings, Settings
from gateway.tracing import Tracing


@dataclass(frozen=True, slots=True)
class PoolOfEntries:
    """A pool, as the settings have it.

    Attributes:
        key: what it serves.
        pool: the pool.
        names: of its entries.
        before: the pool in the configuration before that it follows: its endpoints stay where their client
            does. None where there is none.
    """

    key: PoolKey
    pool: Balancer
    names: Sequence[str]
    before: Balancer | None = None


class FoundClients:
    """The clients of one configuration's endpoints that were looked up.

    Args:
        settings: of the endpoints.
        contracts: by model name.
        root: what files of certificates are relative to.
        tracing: makes spans of their calls, if it is on.
        before: those of the configuration before, as of now: one that fits is shared.

    Attributes:
        clients: those that are in use, by the endpoint's name.
    """

    def __init__(
        self,
        settings: Settings,
        contracts: Mapping[str, Contract],
        root: Path,
        tracing: Tracing | None,
        before: Mapping[str, Client],
    ) -> None:
        self.clients: dict[str, Client] = {}
        self._settings = settings
        self._contracts = contracts
        self._root = root
        self._tracing = tracing
        self._before = before
        self._tls = {
            name: ChannelTls(endpoint.tls, root, name, endpoint.dns_name)
            for name, endpoint in settings.endpoints.items()
            if endpoint.is_discovered and endpoint.tls.ca
        }

    def open(self, entry: str, served: frozenset[PoolKey], name: str, address: str) -> Opened:
        """The client of an address of an entry, which serves this: that of before, or a new one."""
        found = self._settings.endpoints[entry]
        use = Use(found, self._contracts, served)
        client = self._before.get(name)
        if client is None or not client.fits(use):
            tls = self._tls.get(entry)
            client = new_client(name, found.at(address), tls, self._settings, self._root, self._tracing)
        client.keep(use)
        self.clients[name] = client
        return Opened(client.backend, partial(self._release, name, client, use))

    async def _release(self, name: str, client: Client, use: Use) -> None:
        if self.clients.get(name) is client:
            del self.clients[name]
        await client.release(use)

    def refresh(self) -> None:
        """Take renewed certificates, if there are any; those of clients that are shared, too."""
        shared = (client.tls for client in self.clients.values() if client.tls is not None)
        for tls in {*self._tls.values(), *shared}:
            tls.refresh()


def new_memberships(
    settings: Settings,
    root: Path,
    clients: FoundClients,
    pools: Sequence[PoolOfEntries],
    health: HealthCheck,
    drained: Collection[str],
    metrics: Metrics,
    *,
    same_rules: bool,
) -> list[Membership]:
    """What fills and empties the pools, for each entry that is looked up.

    Args:
        settings: of the endpoints.
        root: what files with addresses are relative to.
        clients: opens theirs.
        pools: all of them, those that only shadows ask included.
        health: asks whether endpoints are ready.
        drained: the names of the endpoints that an operator has drained.
        metrics: of this process.
        same_rules: whether the endpoints of the configuration before were made by the same settings of the
            balancing; if not, they are made anew.
    """

    def filled(entry: str, found: EndpointSettings) -> Iterator[FilledPool]:
        for of in pools:
            if entry in of.names:
                new_endpoint = partial(_endpoint, settings, found, of.before, same_rules)
                yield FilledPool(of.key, of.pool, new_endpoint)

    def membership(entry: str, found: EndpointSettings) -> Membership:
        served = frozenset(of.key for of in pools if entry in of.names)
        return Membership(
            entry,
            source=DnsSource(found.dns) if found.dns else FileSource(root / (found.file or "")),
            pools=list(filled(entry, found)),
            open_client=partial(clients.open, entry, served),
            health=health,
            drained=drained,
            interval_seconds=settings.balancing.discovery_interval_seconds,
            lookups=metrics.discovery_lookups,
        )

    return [membership(name, entry) for name, entry in settings.endpoints.items() if entry.is_discovered]


def _endpoint(
    settings: Settings,
    found: EndpointSettings,
    pool: Balancer | None,
    same_rules: bool,
    name: str,
    backend: Backend,
) -> Endpoint:
    """What a pool knows about an endpoint that appears: what the pool before knows, if it has the same."""
    known = pool.endpoints if pool else ()
    before = next((one for one in known if one.name == name and one.infer is backend), None)
    return kept_endpoint(name, found, backend, settings.balancing, before, same_rules=same_rules)
