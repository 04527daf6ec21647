"""The rollouts of one configuration: what an operator may move, and see."""

import time
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

import structlog

from gateway.catalog import Catalog
from gateway.errors import InvalidRequest, NotFound
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.rollouts.plans import RolloutPlan
from gateway.rollouts.rollout import Rollout

_log = structlog.get_logger()


class Rollouts:
    """Every canary, and the labels that stand elsewhere than in the contracts.

    Args:
        plans: what is configured.
        catalog: whose labels it moves.
        serves: whether there is such a pool.
        is_ready: whether a pool has an endpoint that takes traffic.
        metrics: of this process.
        clock: seconds, monotonic.
        rng: draws.

    Attributes:
        canaries: by model name and label; an empty one for what answers by default.
    """

    def __init__(
        self,
        plans: Iterable[RolloutPlan],
        *,
        catalog: Catalog,
        serves: Callable[[PoolKey], bool],
        is_ready: Callable[[PoolKey], bool],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        rng: Random,
    ) -> None:
        self._catalog = catalog
        self._serves = serves
        self._metrics = metrics
        canaries: dict[tuple[str, str], Rollout] = {}
        for plan in plans:
            for label, version in plan.settings.labels.items():
                catalog.move_label(plan.settings.model, label, version)
            if plan.canary is not None:
                canaries[plan.settings.model, plan.settings.label or ""] = Rollout(
                    plan.settings, plan.canary, is_ready=is_ready, metrics=metrics, clock=clock, rng=rng
                )
        self.canaries: Mapping[tuple[str, str], Rollout] = canaries

    def publish(self) -> None:
        """Let the metrics show these weights, and none of a configuration before."""
        self._metrics.canary_weight.clear()
        for canary in self.canaries.values():
            canary.publish()

    def set_weight(self, model: str, label: str, weight: float) -> None:
        """Send this share of the requests for a label, or without one, to its canary from now on.

        Raises:
            NotFound: there is no such canary.
            InvalidRequest: no share: below 0 or above 1.
        """
        canary = self.canaries.get((model, label))
        if canary is None:
            known = ", ".join(_shown(*whose) for whose in self.canaries) or "none"
            what = _shown(model, label)
            raise NotFound(f"{what} has no canary in inferway.yaml (those that have: {known})")
        if not 0 <= weight <= 1:
            raise InvalidRequest(f"weight: expected a number from 0 to 1, got {weight:g}")
        canary.set_weight(weight)
        _log.info("canary_weight_set", model=model, label=label or None, weight_ratio=weight)

    def set_label(self, model: str, label: str, version: str) -> None:
        """Let a model's label stand for this version from now on, and for no canary beside it.

        Raises:
            ModelNotFound, VersionNotFound: there is no such model or version.
            InvalidRequest: an empty label or version, or a version that no pool serves.
        """
        if not label or not version:
            raise InvalidRequest("expected a label and a version")
        concrete = self._catalog.version(model, version=version)
        target = PoolKey(model, concrete, self._catalog.variant(model, concrete))
        if not self._serves(target):
            raise InvalidRequest(
                f"version '{version}' of model '{model}': no pool of inferway.yaml serves it"
            )
        self._catalog.move_label(model, label, version)
        if canary := self.canaries.get((model, label)):
            canary.end(target)
        _log.info("label_moved", model=model, label=label, version=version)

    def status(self) -> dict[str, Any]:
        """What it all does now, for people and JSON: every canary, and the labels by model name."""
        labels = {name: dict(self._catalog.labels(name)) for name in self._catalog.contracts}
        return {
            "canaries": [canary.status() for canary in self.canaries.values()],
            "labels": {name: found for name, found in labels.items() if found},
        }


def _shown(model: str, label: str) -> str:
    return f"label '{label}' of model '{model}'" if label else f"model '{model}'"
