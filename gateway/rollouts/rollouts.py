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
        canaries: by model name.
        on_change: told of a canary that this process has taken back by itself, by model and reason; for
            whoever tells the other processes. What `set_weight` and `set_label` do it is not told.
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
        self.on_change: Callable[[str, str], None] | None = None
        self._catalog = catalog
        self._serves = serves
        self._metrics = metrics
        canaries: dict[str, Rollout] = {}
        for plan in plans:
            for label, version in plan.settings.labels.items():
                catalog.move_label(plan.settings.model, label, version)
            if plan.canary is not None:
                canaries[plan.settings.model] = Rollout(
                    plan.settings,
                    plan.canary,
                    is_ready=is_ready,
                    metrics=metrics,
                    on_rollback=self._rolled_back,
                    clock=clock,
                    rng=rng,
                )
        self.canaries: Mapping[str, Rollout] = canaries

    def publish(self) -> None:
        """Let the metrics show these weights, and none of a configuration before."""
        self._metrics.canary_weight.clear()
        for canary in self.canaries.values():
            canary.publish()

    def set_weight(self, model: str, weight: float) -> None:
        """Send this share of a model's requests to its canary from now on.

        Raises:
            NotFound: the model has no canary.
            InvalidRequest: no share: below 0 or above 1.
        """
        canary = self.canaries.get(model)
        if canary is None:
            known = ", ".join(self.canaries) or "none"
            raise NotFound(f"model '{model}' has no canary in inferway.yaml (those that have: {known})")
        if not 0 <= weight <= 1:
            raise InvalidRequest(f"weight: expected a number from 0 to 1, got {weight:g}")
        canary.set_weight(weight)
        _log.info("canary_weight_set", model=model, weight_ratio=weight)

    def set_label(self, model: str, label: str, version: str) -> None:
        """Let a model's label stand for this version from now on.

        Raises:
            ModelNotFound, VersionNotFound: there is no such model or version.
            InvalidRequest: an empty label or version, or a version that no pool serves.
        """
        if not label or not version:
            raise InvalidRequest("expected a label and a version")
        concrete = self._catalog.version(model, version=version)
        if not self._serves(PoolKey(model, concrete, self._catalog.variant(model, concrete))):
            raise InvalidRequest(
                f"version '{version}' of model '{model}': no pool of inferway.yaml serves it"
            )
        self._catalog.move_label(model, label, version)
        _log.info("label_moved", model=model, label=label, version=version)

    def status(self) -> dict[str, Any]:
        """What it all does now, for people and JSON: canaries and labels by model name."""
        labels = {name: dict(self._catalog.labels(name)) for name in self._catalog.contracts}
        return {
            "canaries": {name: canary.status() for name, canary in self.canaries.items()},
            "labels": {name: found for name, found in labels.items() if found},
        }

    def _rolled_back(self, model: str, reason: str) -> None:
        if self.on_change is not None:
            self.on_change(model, reason)
