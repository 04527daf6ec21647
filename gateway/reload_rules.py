"""When a configuration may take the place of another: pure rules, asked by `gateway/reload.py`."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.balancing.balancer import Balancer
from gateway.inference import PoolKey
from gateway.serving import Serving
from gateway.settings import Settings

LASTING = ("server", "log", "tracing", "cache", "keys", "quotas")
"""The sections that a process keeps: listeners, connections and what they hold were made from them."""


def restart_keys(old: Settings, new: Settings) -> list[tuple[str, ...]]:
    """The keys of lasting sections that differ: what only a restart can change."""
    before, after = old.model_dump(include={*LASTING}), new.model_dump(include={*LASTING})
    return sorted(_differing(before, after))


def is_hopeless(pool: Balancer) -> bool:
    """Whether waiting for a pool is in vain: each of its endpoints says that it cannot serve."""
    return bool(pool.endpoints) and all(endpoint.problem for endpoint in pool.endpoints)


def _differing(before: Any, after: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {*before, *after}:
            yield from _differing(before.get(key), after.get(key), (*place, key))
    elif before != after:
        yield place


def required_pools(old: Serving, new: Serving) -> set[PoolKey]:
    """The pools of the new configuration that must be ready before it may take over.

    Those that are ready in the old one; and of each model that the old one answers, what will answer by
    default and by each label: a version that cannot be answered must not become the default.
    """
    ready = {key for key, pool in old.pools.items() if pool.is_ready()}
    required = {key for key in new.pools if key in ready}
    for contract in new.catalog.contracts.values():
        if any(key.model == contract.name for key in ready):
            for version in (contract.default_version, *new.catalog.labels(contract.name).values()):
                required.add(PoolKey(contract.name, version, contract.versions[version].default_variant))
    return required & new.pools.keys()


def can_answer(pool: Balancer) -> bool:
    """Whether a pool can be answered once its configuration serves, which ends every drain."""
    return any(endpoint.is_ready for endpoint in pool.endpoints)


def is_as_ready(new: Balancer, old: Balancer | None) -> bool:
    """Whether a pool can be answered, by every endpoint that answers for it in the old configuration."""
    answering = {endpoint.name for endpoint in old.endpoints if endpoint.is_ready} if old else set()
    return can_answer(new) and all(
        endpoint.is_ready for endpoint in new.endpoints if endpoint.name in answering
    )
