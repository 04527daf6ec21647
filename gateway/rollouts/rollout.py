"""The canary of a model, or of one of its labels, at work: drawn, watched, taken back when it is bad."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import structlog

from gateway.chain import Infer
from gateway.errors import InvalidRequest, NotFound, Overloaded, Refused
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.keys.key import CALLER
from gateway.metrics import Metrics
from gateway.rollouts.canary import Canary
from gateway.rollouts.rollback import Bounds, Outcomes, has_too_many_errors, why_too_slow
from gateway.traffic_settings import RolloutSettings

STABLE, CANARY = "stable", "canary"
OK, FAILED = "ok", "failed"
JUDGED_SECONDS = 1.0
"""At most so often percentiles are made, which takes a sort."""
COUNTED = frozenset({"miss", "off"})
"""`InferResponse.cache` of what an engine answered for this request: a hit says nothing of the target."""

_log = structlog.get_logger()


class Rollout:
    """The canary of what answers by default, or by one label.

    Args:
        settings: as configured.
        canary: its two targets.
        is_ready: whether a pool has an endpoint that takes traffic.
        metrics: weight, requests by target and outcome, rollbacks.
        clock: seconds, monotonic.
        rng: draws for callers that are not kept on a side.

    Attributes:
        model: whose it is.
        label: whose requests it shares; empty for those that ask for none.
        canary: its two targets.
        weight: share of the requests for the canary, now.
        rolled_back: why it was taken back; empty while it was not.
    """

    def __init__(
        self,
        settings: RolloutSettings,
        canary: Canary,
        *,
        is_ready: Callable[[PoolKey], bool],
        metrics: Metrics,
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self.model, self.label = settings.model, settings.label or ""
        self.canary = canary
        self.weight = settings.weight
        self.rolled_back = ""
        self._bounds = Bounds(
            settings.max_error_ratio,
            settings.max_p99_ratio,
            settings.max_p99_seconds,
            settings.min_requests,
        )
        self._window_seconds = settings.window_seconds
        self._is_ready, self._clock, self._rng = is_ready, clock, rng
        self._weights = metrics.canary_weight
        self._rollbacks = metrics.canary_rollbacks.labels(self.model, self.label)
        self._counters = {
            (side, outcome): metrics.canary_requests.labels(self.model, self.label, side, outcome)
            for side in (STABLE, CANARY)
            for outcome in (OK, FAILED)
        }
        self._start_anew()

    def _start_anew(self) -> None:
        self._outcomes = {side: Outcomes(self._window_seconds) for side in (STABLE, CANARY)}
        self._judged_at = self._clock()

    def draw(self, request: InferRequest) -> PoolKey:
        """The target of a request that asks for its label, or for none, and for no version or variant.

        A canary without an endpoint that takes traffic is not drawn: its callers would get errors that the
        stable side would not give them.
        """
        value = ""
        if self.canary.sticky == "header":
            value = request.sticky
        elif self.canary.sticky == "key":
            key = CALLER.get()
            value = key.id if key else ""
        target = self.canary.draw(self.weight, value, self._rng)
        if target == self.canary.trial and not self._is_ready(target):
            return self.canary.stable
        return target

    async def watched(self, call_next: Infer, request: InferRequest) -> InferResponse:
        """Answer a request that was drawn, and learn from it: time as its caller sees it, failures included.

        What the caller did wrong, what a cache knew, what the caller did not wait for and what was shed say
        nothing of the target.
        """
        started = self._clock()
        side = STABLE if request.pool == self.canary.stable else CANARY
        try:
            response = await call_next(request)
        except (InvalidRequest, NotFound, Refused, Overloaded):
            raise
        except Exception:
            self._learn(side, None)
            raise
        if response.cache in COUNTED:
            self._learn(side, self._clock() - started)
        return response

    def _learn(self, side: str, seconds: float | None) -> None:
        now = self._clock()
        self._counters[side, FAILED if seconds is None else OK].inc()
        self._outcomes[side].add(now, seconds)
        if side == CANARY and self.weight:
            reason = self._judged(now)
            if reason:
                self._roll_back(reason)

    def _judged(self, now: float) -> str:
        """Why the canary must go; empty while it may stay."""
        trial, stable = self._outcomes[CANARY], self._outcomes[STABLE]
        stable.expire(now)
        if has_too_many_errors(trial, stable, self._bounds):
            return f"{trial.errors} of {len(trial)} requests failed"
        if now - self._judged_at < JUDGED_SECONDS:
            return ""
        self._judged_at = now
        return why_too_slow(trial, stable, self._bounds)

    def _roll_back(self, reason: str) -> None:
        trial = self.canary.trial
        _log.warning(
            "canary_rolled_back",
            model=self.model,
            label=self.label or None,
            version=trial.version,
            variant=trial.variant,
            reason=reason,
            weight_ratio=self.weight,
        )
        self._rollbacks.inc()
        self.weight, self.rolled_back = 0.0, reason
        self.publish()

    def set_weight(self, weight: float) -> None:
        """Move it: a weight that somebody sets ends a rollback, and what was before counts no more."""
        self.weight, self.rolled_back = weight, ""
        self._start_anew()
        self.publish()

    def end(self, stable: PoolKey) -> None:
        """Its label was moved and stands for this: nothing else answers it until somebody sets a weight."""
        self.canary = replace(self.canary, stable=stable)
        self.set_weight(0.0)

    def publish(self) -> None:
        """Tell the metrics its weight."""
        self._weights.labels(self.model, self.label).set(self.weight)

    def status(self) -> dict[str, Any]:
        """What it does now, for people and JSON."""
        now = self._clock()
        targets = {STABLE: self.canary.stable, CANARY: self.canary.trial}
        shown: dict[str, Any] = {}
        for side, target in targets.items():
            outcomes = self._outcomes[side]
            outcomes.expire(now)
            shown[side] = {
                "version": target.version,
                "variant": target.variant,
                "requests": len(outcomes),
                "errors": outcomes.errors,
                "p99_seconds": outcomes.p99(),
            }
        return {
            "model": self.model,
            "label": self.label or None,
            "weight": self.weight,
            "sticky": self.canary.sticky,
            "rolled_back": self.rolled_back or None,
            **shown,
        }
