"""What `rollouts` and `shadows` of the settings mean, held against contracts and pools."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.configuration import ConfigurationError, meant
from gateway.contract import Contract
from gateway.inference import PoolKey
from gateway.rollouts.canary import Canary
from gateway.settings import Settings
from gateway.traffic_settings import RolloutSettings, ShadowSettings

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """One entry of `rollouts`.

    Attributes:
        settings: as configured.
        canary: its two targets; None where the entry only has labels.
    """

    settings: RolloutSettings
    canary: Canary | None


@dataclass(frozen=True, slots=True)
class ShadowPlan:
    """One entry of `shadows`.

    Attributes:
        settings: as configured.
        source: the pool whose requests are sent on.
        to: what is asked too.
        endpoints: the names of those that are asked, as the settings have them.
        target: its name in metrics: version, variant, and the endpoints where the entry names them.
    """

    settings: ShadowSettings
    source: PoolKey
    to: PoolKey
    endpoints: tuple[str, ...]
    target: str


def rollout_plans(
    settings: Settings, contracts: Mapping[str, Contract], pools: Collection[PoolKey]
) -> Iterator[RolloutPlan]:
    """Every entry of `rollouts`.

    Raises:
        ConfigurationError: with file, line and mend.
    """
    labels = _labels(settings, contracts)
    seen: set[tuple[str, str | None]] = set()
    for index, entry in enumerate(settings.rollouts):
        place: Place = ("rollouts", index)
        contract = _contract(settings, contracts, entry.model, place)
        if (entry.model, entry.label) in seen:
            what = f"label '{entry.label}' of '{entry.model}'" if entry.label else f"'{entry.model}'"
            where = settings.where(*place, "label" if entry.label else "model")
            raise ConfigurationError(f"{where}: {what} has a rollout above; make one of both")
        seen.add((entry.model, entry.label))
        yield RolloutPlan(entry, _canary(settings, contract, entry, labels[entry.model], pools, place))


def _labels(settings: Settings, contracts: Mapping[str, Contract]) -> Mapping[str, Mapping[str, str]]:
    """The versions that each model's labels stand for: as the contract says, and over that the entries."""
    labels = {name: dict(contract.labels) for name, contract in contracts.items()}
    moved: set[tuple[str, str]] = set()
    for index, entry in enumerate(settings.rollouts):
        contract = _contract(settings, contracts, entry.model, ("rollouts", index))
        for label, version in entry.labels.items():
            place: Place = ("rollouts", index, "labels", label)
            _check(settings, version, contract.versions, "version", place)
            if (entry.model, label) in moved:
                raise ConfigurationError(
                    f"{settings.where(*place)}: it is there above; leave one of them out"
                )
            moved.add((entry.model, label))
            labels[entry.model][label] = version
    return labels


def _canary(
    settings: Settings,
    contract: Contract,
    entry: RolloutSettings,
    labels: Mapping[str, str],
    pools: Collection[PoolKey],
    place: Place,
) -> Canary | None:
    if entry.canary_version is None and entry.canary_variant is None:
        if entry.weight or entry.label:
            where = settings.where(*place, "weight" if entry.weight else "label")
            mend = "add canary_version, canary_variant or both"
            raise ConfigurationError(f"{where}: there is nothing that it could go to; {mend}")
        return None
    if entry.label:
        _check(settings, entry.label, labels, "label", (*place, "label"))
    stable = _target(settings, contract, labels[entry.label] if entry.label else None, None, place)
    names = ((*place, "canary_version"), (*place, "canary_variant"))
    trial = _target(settings, contract, entry.canary_version or stable.version, entry.canary_variant, *names)
    if trial == stable:
        mend = "name another version or variant"
        raise ConfigurationError(f"{settings.where(*place)}: the canary is what answers already; {mend}")
    for target in (stable, trial):
        if target not in pools:
            where = settings.where(*place)
            raise ConfigurationError(f"{where}: no pool serves {_shown(target)}; add it to pools")
    return Canary(stable, trial, entry.sticky)


def shadow_plans(
    settings: Settings, contracts: Mapping[str, Contract], pools: Mapping[PoolKey, Sequence[str]]
) -> Iterator[ShadowPlan]:
    """Every entry of `shadows`.

    Args:
        settings: of the gateway.
        contracts: by model name.
        pools: the names of the endpoints of each.

    Raises:
        ConfigurationError: with file, line and mend.
    """
    seen: set[tuple[PoolKey, str]] = set()
    for index, entry in enumerate(settings.shadows):
        place: Place = ("shadows", index)
        contract = _contract(settings, contracts, entry.model, place)
        own = ((*place, "version"), (*place, "variant"))
        source = _target(settings, contract, entry.version, entry.variant, *own)
        to = entry.to
        names = ((*place, "to", "version"), (*place, "to", "variant"))
        target = _target(
            settings, contract, to.version or source.version, to.variant or source.variant, *names
        )
        if source not in pools:
            raise ConfigurationError(f"{settings.where(*place)}: no pool serves {_shown(source)}")
        if target == source and not to.endpoints:
            mend = "name endpoints, another version or another variant"
            raise ConfigurationError(f"{settings.where(*place, 'to')}: that is what answers already; {mend}")
        endpoints = to.endpoints or tuple(pools.get(target, ()))
        if not endpoints:
            where = settings.where(*place, "to")
            raise ConfigurationError(f"{where}: no pool serves {_shown(target)}; name endpoints")
        _check_endpoints(settings, contract, target, to.endpoints, (*place, "to", "endpoints"))
        at = f"@{'+'.join(to.endpoints)}" if to.endpoints else ""
        name = f"{target.version}-{target.variant}{at}"
        if (source, name) in seen:
            raise ConfigurationError(f"{settings.where(*place)}: it is there above; leave one of them out")
        seen.add((source, name))
        yield ShadowPlan(entry, source, target, endpoints, name)


def _check_endpoints(
    settings: Settings, contract: Contract, target: PoolKey, names: Sequence[str], place: Place
) -> None:
    unpublished = contract.versions[target.version].variants[target.variant].unpublished
    for position, name in enumerate(names):
        where = settings.where(*place, position)
        if name not in settings.endpoints:
            raise ConfigurationError(
                f"{where}: there is no endpoint '{name}'; {meant(name, settings.endpoints)}"
            )
        if name in names[:position]:
            raise ConfigurationError(f"{where}: endpoint '{name}' is named twice")
        if settings.endpoints[name].backend in unpublished:
            raise ConfigurationError(f"{where}: endpoint '{name}' does not publish {_shown(target)}")


def _contract(settings: Settings, contracts: Mapping[str, Contract], model: str, place: Place) -> Contract:
    contract = contracts.get(model)
    if contract is None:
        where = settings.where(*place, "model")
        raise ConfigurationError(f"{where}: there is no '{model}' with a contract; {meant(model, contracts)}")
    return contract


def _target(
    settings: Settings, contract: Contract, version: str | None, variant: str | None, *places: Place
) -> PoolKey:
    """A version and variant, each the default one where it is not named; `places` are those of the two."""
    version = version or contract.default_version
    _check(settings, version, contract.versions, "version", places[0])
    spec = contract.versions[version]
    variant = variant or spec.default_variant
    _check(settings, variant, spec.variants, f"variant in version '{version}'", places[-1])
    return PoolKey(contract.name, version, variant)


def _check(settings: Settings, name: str, known: Collection[str], what: str, place: Place) -> None:
    if name not in known:
        raise ConfigurationError(
            f"{settings.where(*place)}: there is no {what} '{name}'; {meant(name, known)}"
        )


def _shown(key: PoolKey) -> str:
    return f"version '{key.version}' variant '{key.variant}' of model '{key.model}'"
