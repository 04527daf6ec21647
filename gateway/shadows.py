"""The shadows that the settings describe, each with a pool of its own."""

from collections.abc import Mapping, Sequence
from random import SystemRandom

from prometheus_client import CollectorRegistry

from gateway.balancing.balancer import Balancer
from gateway.contract import Contract
from gateway.endpoints import new_balancer
from gateway.handover import Client, Use
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.rollouts.plans import ShadowPlan
from gateway.rollouts.shadow import Shadow
from gateway.settings import Settings


def new_shadows(
    plans: Sequence[ShadowPlan],
    settings: Settings,
    contracts: Mapping[str, Contract],
    clients: Mapping[str, tuple[Client, Use]],
    metrics: Metrics,
) -> list[tuple[Shadow, Balancer]]:
    """A shadow for each plan, and its pool, whose attempts are none of the metrics on clients' requests.

    Endpoints that are looked up come to the pool later.
    """
    shadows = []
    for plan in plans:
        used = {name: clients[name][0] for name in plan.endpoints if name in clients}
        pool = new_balancer(plan.to, plan.endpoints, used, settings, Metrics(CollectorRegistry()), ())
        contract = contracts[plan.to.model]
        shadows.append((Shadow(plan, pool, contract=contract, metrics=metrics, rng=SystemRandom()), pool))
    return shadows


def by_source(shadows: Sequence[tuple[Shadow, Balancer]]) -> dict[PoolKey, list[Shadow]]:
    """The shadows of each pool that clients are answered from."""
    found: dict[PoolKey, list[Shadow]] = {}
    for shadow, _ in shadows:
        found.setdefault(shadow.plan.source, []).append(shadow)
    return found


def asked(
    pools: Mapping[PoolKey, Sequence[str]], plans: Sequence[ShadowPlan]
) -> Mapping[PoolKey, Sequence[str]]:
    """What every endpoint is asked for, for clients and as a shadow."""
    names = {key: list(of_pool) for key, of_pool in pools.items()}
    for plan in plans:
        names.setdefault(plan.to, []).extend(plan.endpoints)
    return names
