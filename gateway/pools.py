"""Which endpoints serve what: the pools of the settings, held against the contracts."""

from collections.abc import Iterator, Mapping

from gateway.configuration import ConfigurationError, meant
from gateway.contract import Contract
from gateway.inference import PoolKey
from gateway.settings import Settings
from gateway.traffic_settings import PolicyName


def pool_endpoints(settings: Settings, contracts: Mapping[str, Contract]) -> dict[PoolKey, tuple[str, ...]]:
    """The names of the endpoints of every pool: of those in it that publish the variant.

    Raises:
        ConfigurationError: a pool of a model, version or variant that there is not, two pools of the same, or
            a model whose default has none; with file, line and mend.
    """
    pools: dict[PoolKey, tuple[str, ...]] = {}
    for index, pool in enumerate(settings.pools):
        for key in _keys(settings, index, contracts):
            if key in pools:
                mend = "name all of its endpoints in one"
                place = settings.where("pools", index)
                raise ConfigurationError(f"{place}: {_shown(key)} is in a pool above; {mend}")
            unpublished = contracts[key.model].versions[key.version].variants[key.variant].unpublished
            names = tuple(n for n in pool.endpoints if settings.endpoints[n].backend not in unpublished)
            if names:
                pools[key] = names
            elif pool.variant:
                place = settings.where("pools", index, "endpoints")
                raise ConfigurationError(f"{place}: none of them publishes {_shown(key)}")
    for index, (name, contract) in enumerate(contracts.items()):
        version = contract.default_version
        default = PoolKey(name, version, contract.versions[version].default_variant)
        if default not in pools:
            mend = "which answers by default; add it to pools"
            raise ConfigurationError(
                f"{settings.where('models', index)}: no pool serves {_shown(default)}, {mend}"
            )
    for index, entry in enumerate(settings.passthrough):
        key = PoolKey(entry.model, "", "")
        if key in pools or entry.model in contracts:
            place = settings.where("passthrough", index, "model")
            raise ConfigurationError(f"{place}: '{entry.model}' has a pool already")
        pools[key] = entry.endpoints
    return pools


def pool_policy(settings: Settings, key: PoolKey) -> PolicyName:
    """How a pool of `pool_endpoints` picks among its endpoints."""
    own = [pool.policy for pool in settings.pools if pool.serves(key.model, key.version, key.variant)]
    own += [entry.policy for entry in settings.passthrough if entry.model == key.model]
    return next(iter(own), None) or settings.balancing.policy  # a shadow may ask for what no pool serves


def _keys(settings: Settings, index: int, contracts: Mapping[str, Contract]) -> Iterator[PoolKey]:
    """What one entry of `pools` serves."""
    pool = settings.pools[index]
    contract = contracts.get(pool.model)
    if contract is None:
        place = settings.where("pools", index, "model")
        raise ConfigurationError(f"{place}: there is no '{pool.model}'; {meant(pool.model, contracts)}")
    for position, version in enumerate(pool.versions or contract.versions):
        spec = contract.versions.get(version)
        if spec is None:
            place = settings.where("pools", index, "versions", position)
            mend = meant(version, contract.versions)
            raise ConfigurationError(f"{place}: model '{pool.model}' has no '{version}'; {mend}")
        if pool.variant and pool.variant not in spec.variants:
            place = settings.where("pools", index, "variant")
            what = f"version '{version}' of model '{pool.model}' has no '{pool.variant}'"
            raise ConfigurationError(f"{place}: {what}; {meant(pool.variant, spec.variants)}")
        for variant in (pool.variant,) if pool.variant else spec.variants:
            yield PoolKey(pool.model, version, variant)


def _shown(key: PoolKey) -> str:
    return f"version '{key.version}' variant '{key.variant}' of model '{key.model}'"
