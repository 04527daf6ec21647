"""What one configuration serves: the models, their pools, and what keeps those up."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from gateway.backends import CannotServe
from gateway.backends.repository import check_built, file_digests
from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.heal import Heal
from gateway.balancing.health_check import MOST_CHECKS_PER_SECOND, HealthCheck
from gateway.balancing.membership import Membership
from gateway.balancing.warm_up import WarmUp
from gateway.catalog import Catalog
from gateway.chain import Infer
from gateway.configuration import ConfigurationError
from gateway.endpoints import new_balancer, new_clients
from gateway.handover import Client, Use
from gateway.inference import PoolKey
from gateway.loading import load_contracts
from gateway.memberships import FoundClients, PoolOfEntries, new_memberships
from gateway.metrics import Metrics
from gateway.pools import pool_endpoints
from gateway.rollouts.plans import rollout_plans, shadow_plans
from gateway.rollouts.rollouts import Rollouts
from gateway.rollouts.shadow import Shadow
from gateway.settings import Settings
from gateway.shadows import asked, by_source, new_shadows
from gateway.stage_chain import Lasting, Learned, new_chain
from gateway.stages.admission import hide, show
from gateway.traffic_settings import BalancingSettings
from gateway.transforms import ModelCode

PAUSE_RATIO = 3.0
"""A server that warms up for a new configuration has three quarters of the time for the old one."""


@dataclass(frozen=True, slots=True)
class Serving:
    """One configuration at work, from `start` to `stop`.

    Attributes:
        catalog: the models.
        pools: by what they serve.
        infer: the chain.
        rollouts: its canaries and labels.
        learned: what its stages know of the pools.
        balancing: the settings that its endpoints were made by.
        drained: the names of the endpoints that an operator has drained, those that are away included.
        code: of each model, by its name.
    """

    catalog: Catalog
    pools: Mapping[PoolKey, Balancer]
    infer: Infer
    rollouts: Rollouts
    learned: Learned
    balancing: BalancingSettings
    drained: set[str]
    code: Mapping[str, ModelCode]
    _metrics: Metrics
    _shadows: Sequence[tuple[Shadow, Balancer]]
    _health: HealthCheck
    _memberships: Sequence[Membership]
    _clients: Mapping[str, tuple[Client, Use]]
    _found: FoundClients

    async def start(self) -> None:
        """Look for endpoints and ask each whether it is ready, and go on; returns after the first answers."""
        await asyncio.gather(*(membership.start() for membership in self._memberships))
        pools = (*self.pools.items(), *self.shadow_pools())
        await self._health.start((key, pool.endpoints) for key, pool in pools)

    async def stop(self) -> None:
        """Look and ask no more, and give up every connection that no other configuration has."""
        for membership in self._memberships:
            await membership.stop()
        await self._health.stop()
        for shadow, _ in self._shadows:
            await shadow.aclose()
        for client, use in self._clients.values():
            await client.release(use)

    def publish(self) -> None:
        """Let the metrics tell of these pools; what an operator drained before takes requests again."""
        for pool in self.pools.values():
            for endpoint in pool.endpoints:
                endpoint.is_draining = False
            pool.publish()
        self.rollouts.publish()
        show(self.learned.gates, self._metrics)

    def withdraw(self, newer: "Serving") -> None:
        """Let the metrics tell of these pools no more: `newer` serves, and nothing is drained for it."""
        self.drained.clear()  # what comes back here, while requests end, `newer` may share
        for key, pool in self.pools.items():
            other = newer.pools.get(key)
            pool.withdraw({endpoint.name for endpoint in other.endpoints} if other else ())
        hide(self.learned.gates.keys() - newer.learned.gates.keys(), self._metrics)

    def refresh_channels(self) -> None:
        """Take renewed certificates of endpoints, if there are any."""
        for client, _ in self._clients.values():
            if client.tls is not None:
                client.tls.refresh()
        self._found.refresh()

    def files(self) -> list[Path]:
        """The files of the embedded engine that are served."""
        return sorted({path for _, use in self._clients.values() for path in use.every_file()})

    async def check_files(self) -> None:
        """Load each file of the embedded engine, without serving it.

        Raises:
            ConfigurationError: some cannot be served; a line for each thing to mend.
        """
        problems = []
        for client, use in self._clients.values():
            for key in sorted(use.files):
                try:
                    await client.backend.is_ready(*key)
                except CannotServe as error:
                    problems.append(str(error))
        if problems:
            raise ConfigurationError("\n".join(problems))

    def clients(self) -> dict[str, Client]:
        """The clients of the endpoints, by their names."""
        return {name: client for name, (client, _) in self._clients.items()}

    def found_clients(self) -> Mapping[str, Client]:
        """The same of the endpoints that were looked up, as of now: with `stop` they are gone."""
        return self._found.clients

    def shadow_pools(self) -> list[tuple[PoolKey, Balancer]]:
        """The pools that only shadows ask, one for each shadow, and what they are asked for."""
        return [(shadow.plan.to, pool) for shadow, pool in self._shadows]

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint of every pool, those that only shadows ask included."""
        pools = (*self.pools.values(), *(pool for _, pool in self.shadow_pools()))
        return [endpoint for pool in pools for endpoint in pool.endpoints]

    def drain(self, name: str, *, is_draining: bool) -> None:
        """Send the endpoint of this name no new requests, or again: in every pool, and when it comes back."""
        for endpoint in self.endpoints():
            if endpoint.name == name:
                endpoint.is_draining = is_draining
        (self.drained.add if is_draining else self.drained.discard)(name)

    def known_endpoints(self, key: PoolKey) -> Sequence[Endpoint]:
        """The endpoints of a pool; none where there is no such pool."""
        return self.pools[key].endpoints if key in self.pools else ()

    def origin(self, key: PoolKey) -> PoolKey:
        """The pool that one of the next configuration follows: itself, or that of the default version."""
        contract = self.catalog.contracts.get(key.model)
        if key in self.pools or contract is None:
            return key
        return PoolKey(key.model, contract.default_version, key.variant)

    def is_ready(self, model: str, version: str) -> bool:
        """Whether the default variant of a model's version has an endpoint that takes traffic."""
        contract = self.catalog.contracts.get(model)
        variant = contract.versions[version].default_variant if contract else ""
        pool = self.pools.get(PoolKey(model, version if contract else "", variant))
        return pool is not None and pool.is_ready()


def build_serving(settings: Settings, root: Path, lasting: Lasting, before: Serving | None = None) -> Serving:
    """All of it, from the settings; nothing is started or connected. `stop` gives back what it shares.

    Args:
        settings: checked in themselves.
        root: what the model folders and the embedded engine's repository are relative to.
        lasting: what every configuration of this process shares.
        before: the configuration that it is to replace; what stays the same is taken over from it.

    Raises:
        ConfigurationError: a pool, a rollout or a shadow and a contract do not fit, or a model was not built.
    """
    contracts = load_contracts(settings, root)
    known_code = before.code if before else {}
    code = {name: ModelCode.load(contract, known_code.get(name)) for name, contract in contracts.items()}
    endpoints = pool_endpoints(settings, contracts)
    check_built(settings, contracts, endpoints, root)
    catalog = Catalog(
        contracts,
        transforms={name: each.transform for name, each in code.items() if each.transform is not None},
        files=file_digests(settings, endpoints, root),
        passthrough=frozenset(entry.model for entry in settings.passthrough),
    )
    health = _health_check(settings, code, lasting.metrics, PAUSE_RATIO if before else 0.0)
    known = before.clients() if before else {}
    plans = list(shadow_plans(settings, contracts, endpoints))
    clients = new_clients(settings, contracts, asked(endpoints, plans), root, lasting.tracing, known)
    balancing = settings.balancing
    same_rules = before is not None and before.balancing == balancing
    pools = {
        key: new_balancer(
            key,
            names,
            {name: clients[name][0] for name in names if name in clients},
            settings,
            lasting.metrics,
            before.known_endpoints(key) if before else (),
            same_rules=same_rules,
        )
        for key, names in endpoints.items()
    }
    shadows = new_shadows(plans, settings, contracts, clients, lasting.metrics)
    filled = [
        PoolOfEntries(key, pool, endpoints[key], before.pools.get(key) if before else None)
        for key, pool in pools.items()
    ]
    filled += [PoolOfEntries(shadow.plan.to, pool, shadow.plan.endpoints) for shadow, pool in shadows]
    found = FoundClients(settings, contracts, root, lasting.tracing, before.found_clients() if before else {})
    drained = set[str]()
    memberships = new_memberships(
        settings, root, found, filled, health, drained, lasting.metrics, same_rules=same_rules
    )
    rollouts = Rollouts(
        rollout_plans(settings, contracts, pools),
        catalog=catalog,
        serves=pools.__contains__,
        is_ready=lambda key: pools[key].is_ready(),
        metrics=lasting.metrics,
        rng=SystemRandom(),
    )
    origins = {key: before.origin(key) if before else key for key in pools}
    learned = (before.learned if before else Learned()).to(origins, settings.admission)
    chained = new_chain(settings, catalog, pools, lasting, learned, rollouts, by_source(shadows))
    for client, use in clients.values():  # now that nothing can fail any more
        client.keep(use)
    return Serving(
        catalog,
        pools,
        chained,
        rollouts,
        learned,
        balancing,
        drained,
        code,
        lasting.metrics,
        shadows,
        health,
        memberships,
        clients,
        found,
    )


def _health_check(
    settings: Settings, code: Mapping[str, ModelCode], metrics: Metrics, pause_ratio: float
) -> HealthCheck:
    balancing = settings.balancing
    return HealthCheck(
        interval_seconds=balancing.ready_interval_seconds,
        timeout_seconds=balancing.ready_timeout_seconds,
        most_per_second=MOST_CHECKS_PER_SECOND,
        warm_up=WarmUp(
            {name: each.example for name, each in code.items()},
            timeout_seconds=balancing.warm_up_timeout_seconds,
            attempt_timeout_seconds=balancing.attempt_timeout_seconds,
            pause_ratio=pause_ratio,
        ),
        heal=Heal(metrics),
    )
