"""The chain of stages of one configuration, in the order in which a request meets them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.access import Access
from gateway.admission.gate import Gate, GateRules
from gateway.admission.limit import LimitRules
from gateway.balancing.balancer import Balancer
from gateway.balancing.latency_quantile import LatencyQuantile
from gateway.balancing.retry_budget import RetryBudget
from gateway.batching.joining import Joining, can_join
from gateway.batching.size_limit import SizeLimit
from gateway.caching.memory import MemoryStore
from gateway.caching.redis import RedisStore
from gateway.catalog import Catalog
from gateway.chain import Infer, Stage, chain
from gateway.contract import Contract
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.rollouts.rollouts import Rollouts
from gateway.rollouts.shadow import Shadow
from gateway.settings import Settings
from gateway.stages.admission import Admission
from gateway.stages.authorized import Authorized
from gateway.stages.batched import Batched
from gateway.stages.cached import Cached
from gateway.stages.hedged import QUANTILE, Hedged
from gateway.stages.resolved import Resolved
from gateway.stages.retry import Retry
from gateway.stages.routed import Routed
from gateway.stages.single_flight import SingleFlight
from gateway.tracing import Tracing
from gateway.traffic_settings import AdmissionSettings


@dataclass(frozen=True, slots=True)
class Lasting:
    """What a process keeps however often its configuration changes.

    Attributes:
        metrics: of this process.
        memory: the cache's memory tier.
        redis: the cache's second tier, where there is one.
        access: lets callers in by their API keys; None where everybody may ask.
        tracing: makes the spans; None when it is off.
    """

    metrics: Metrics
    memory: MemoryStore
    redis: RedisStore | None
    access: Access | None
    tracing: Tracing | None


@dataclass(frozen=True, slots=True)
class Learned:
    """What stages have learned of each pool. A configuration goes on with it where the one before it ended.

    Attributes:
        gates: of admission; none where it is off.
        latencies: how long answers take, for hedging.
    """

    gates: Mapping[PoolKey, Gate[Any]] = field(default_factory=dict)
    latencies: Mapping[PoolKey, LatencyQuantile] = field(default_factory=dict)

    def to(self, origins: Mapping[PoolKey, PoolKey], settings: AdmissionSettings) -> "Learned":
        """What another configuration begins with.

        A pool that stays keeps its own. A new one begins with a copy of what is known of the pool that it
        follows: a better first guess than none, and its own answers correct it. A gate by other rules
        begins anew.

        Args:
            origins: for each of its pools the one that it follows; itself, where it stays.
            settings: its rules.
        """
        limit = LimitRules(
            settings.min_limit_requests, settings.max_limit_requests, settings.latency_goal_seconds
        )
        rules = GateRules(limit, settings.max_queue_requests, settings.max_queue_bytes)
        gates, latencies = {}, {}
        for key, origin in origins.items():
            gate, latency = self.gates.get(origin), self.latencies.get(origin)
            if gate is None or gate.rules != rules:
                gate = Gate(rules)
            elif key != origin:
                known, gate = gate.limit, Gate(rules)
                # A lower one than that may be what the version before was sick of.
                if known.requests > gate.limit.requests:
                    gate.limit = copy(known)
            gates[key] = gate
            if latency is None:
                latency = LatencyQuantile(QUANTILE)
            elif key != origin:
                latency = deepcopy(latency)
            latencies[key] = latency
        return Learned(gates if settings.enabled else {}, latencies)


def new_chain(
    settings: Settings,
    catalog: Catalog,
    pools: Mapping[PoolKey, Balancer],
    lasting: Lasting,
    learned: Learned,
    rollouts: Rollouts,
    shadows: Mapping[PoolKey, Sequence[Shadow]],
) -> Infer:
    """The stages in front of the pools; the docstring of each says why it stands where it does."""
    contracts, metrics, tracing = catalog.contracts, lasting.metrics, lasting.tracing
    access, redis = lasting.access, lasting.redis
    retry = settings.retry
    budgets = defaultdict[PoolKey, RetryBudget](
        partial(RetryBudget, ratio=retry.budget_ratio, floor_per_second=retry.budget_floor_per_second)
    )
    cached = partial(Cached, contracts=contracts, metrics=metrics)
    flight = tracing.flight if tracing else None
    stages: dict[str, Stage] = {
        **({"Authorized": partial(Authorized, access=access)} if access else {}),
        "Resolved": partial(
            Resolved,
            catalog=catalog,
            max_request_bytes=settings.server.max_request_bytes,
            canaries=rollouts.canaries,
        ),
        "Cached(memory)": partial(cached, store=lasting.memory, tier="memory"),
        "SingleFlight": partial(SingleFlight, contracts=contracts, metrics=metrics, trace=flight),
        **({"Cached(redis)": partial(cached, store=redis, tier="redis")} if redis else {}),
        **({"Admission": _admission(settings, learned, metrics)} if settings.admission.enabled else {}),
        "Retry": partial(
            Retry, budget_of=budgets.__getitem__, max_attempts=retry.max_attempts, metrics=metrics
        ),
        **(
            {"Hedged": _hedged(settings, contracts, pools, learned, metrics)}
            if settings.hedging.enabled
            else {}
        ),
    }
    infers = {key: _batched(settings, contracts, key, pool, budgets, lasting) for key, pool in pools.items()}
    if tracing is None:
        return chain(*stages.values(), to=Routed(infers, shadows))
    routed = Routed({key: tracing.attempt(infer) for key, infer in infers.items()}, shadows)
    traced = (tracing.stage(name, stage) for name, stage in stages.items())
    return chain(*traced, to=tracing.infer("Routed", routed))


def _batched(
    settings: Settings,
    contracts: Mapping[str, Contract],
    key: PoolKey,
    pool: Balancer,
    budgets: Mapping[PoolKey, RetryBudget],
    lasting: Lasting,
) -> Infer:
    """A pool behind Batched; as it is where its model or the settings say no."""
    batching, contract = settings.batching, contracts.get(key.model)
    if not batching.enabled or contract is None or not contract.batched or not can_join(contract):
        return pool
    max_rows = min(batching.max_rows, contract.max_batch_size)
    return Batched(
        pool,
        model=key.model,
        idle_instances=pool.idle_instances,
        joining=Joining(contract),
        size_limit=SizeLimit(max_rows, batching.latency_goal_seconds),
        max_bytes=min(batching.max_bytes, settings.server.max_request_bytes),
        preferred_rows=batching.preferred_rows,
        max_delay_seconds=batching.max_delay_seconds,
        budget=budgets[key],
        metrics=lasting.metrics,
        trace=lasting.tracing.flight if lasting.tracing else None,
    )


def _admission(settings: Settings, learned: Learned, metrics: Metrics) -> Stage:
    priority = settings.admission.default_priority
    return partial(Admission, gates=learned.gates, default_priority=priority, metrics=metrics)


def _hedged(
    settings: Settings,
    contracts: Mapping[str, Contract],
    pools: Mapping[PoolKey, Balancer],
    learned: Learned,
    metrics: Metrics,
) -> Stage:
    """Hedged over the pools of the models that have a contract, and none that says no."""
    hedged = {model for model, contract in contracts.items() if contract.hedged}
    ratio = settings.hedging.budget_ratio
    return partial(
        Hedged,
        pools={key: pool for key, pool in pools.items() if key.model in hedged},
        latencies=learned.latencies,
        new_budget=partial(RetryBudget, ratio=ratio, floor_per_second=0),
        metrics=metrics,
    )
