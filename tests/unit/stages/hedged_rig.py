"""A Hedged over a Balancer over fakes, for its tests."""

import asyncio
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.latency_quantile import LatencyQuantile
from gateway.balancing.retry_budget import RetryBudget
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.metrics import Metrics
from gateway.stages.hedged import QUANTILE, Hedged
from tests.fakes import FakeClock, FakeInfer, a_request, until

POOL = PoolKey("adder", "1", "fp32")
USUAL_SECONDS = 0.001
"""Of an answer, by the fake clock: so the hedge comes, in real time, a moment after the first attempt."""


def asked(**changes: Any) -> InferRequest:
    return a_request(version="1", variant="fp32", **changes)


class Rig:
    """A Hedged over a Balancer; the first attempt goes to `a`, as long as all others are busier.

    Args:
        infers: of the endpoints `a`, `b` and `c`.
    """

    def __init__(self, *infers: FakeInfer, hedges: float = 100, observations: int = 100) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.endpoints = [
            Endpoint(name, "fake", infer, is_ready=True) for name, infer in zip("abc", infers, strict=False)
        ]
        for load, endpoint in enumerate(self.endpoints):
            endpoint.latency.observe(0.001 * (1 + load), self.clock.now)
        self.balancer = Balancer(
            self.endpoints,
            pool=POOL,
            attempt_timeout_seconds=60,
            metrics=metrics,
            clock=self.clock,
            rng=Random(7),  # noqa: S311
        )
        self.budget = RetryBudget(ratio=0, floor_per_second=hedges)
        self.infer = Hedged(
            self.balancer,
            pools={POOL: self.balancer},
            latencies={POOL: LatencyQuantile(QUANTILE)},
            new_budget=lambda: self.budget,
            metrics=metrics,
            clock=self.clock,
        )
        latency = self.infer._pools[POOL].latency  # else each test would send 100 requests
        for _ in range(observations):
            latency.observe(USUAL_SECONDS, self.clock.now)

    def hedges(self) -> dict[str, float]:
        found = {
            result: self.registry.get_sample_value(
                "gateway_hedges_total", {"model": "adder", "result": result}
            )
            for result in ("won", "lost", "refused")
        }
        return {result: count for result, count in found.items() if count}

    def attempts(self) -> dict[str, float]:
        samples = next(
            metric.samples
            for metric in self.registry.collect()
            if metric.name == "gateway_attempt_duration_seconds"
        )
        return {
            sample.labels["outcome"]: sample.value for sample in samples if sample.name.endswith("_count")
        }

    def in_flight(self) -> list[int]:
        return [endpoint.in_flight for endpoint in self.endpoints]

    async def until_hedged(self, request: InferRequest | None = None) -> "asyncio.Task[InferResponse]":
        """A request that is under way at two endpoints."""
        task = asyncio.create_task(self.infer(request or asked()))
        await until(lambda: sum(self.in_flight()) == 2)
        return task


def hanging(*answers: Any) -> FakeInfer:
    infer = FakeInfer(*answers)
    infer.is_open.clear()
    return infer
