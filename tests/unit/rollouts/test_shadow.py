"""A shadow is asked once the client has its answer, within bounds of its own, and only compared."""

import asyncio
from random import Random
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import EndpointBusy, Unavailable
from gateway.inference import InferRequest, InferResponse, PoolKey, Tensor
from gateway.metrics import Metrics
from gateway.rollouts.plans import ShadowPlan
from gateway.rollouts.shadow import HELD_BYTES, INFINITE_DIFFERENCE, Shadow
from gateway.stages.routed import Routed
from gateway.traffic_settings import ShadowSettings
from tests.fakes import FakeClock, FakeInfer, a_failure, a_request, fake_contract, settle

SOURCE = PoolKey("sorter", "1", "fp32")
CONTRACT = fake_contract("sorter", {"x": ("FP32", [1])}, {"y": ("FP32", [2], ["a", "b"])})


def answer(*values: float) -> Tensor:
    return Tensor.of("y", "FP32", np.array([values]))


def asked(**changes: Any) -> InferRequest:
    x = Tensor.of("x", "FP32", np.array([[1.0]]))
    return a_request(**{"model": "sorter", "inputs": (x,), "version": "1", "variant": "fp32", **changes})


class Rig:
    """A client's pool behind Routed, and a shadow of it."""

    def __init__(self, shadowed: FakeInfer, pool: FakeInfer | None = None, **settings: Any) -> None:
        settings = {"model": "sorter", "to": {"variant": "int8"}, "ratio": 1.0, **settings}
        self.metrics = Metrics(CollectorRegistry())
        self.clock = FakeClock()
        self.pool = pool or FakeInfer(lambda _: (answer(0.9, 0.1),))
        plan = ShadowPlan(
            ShadowSettings(**settings), SOURCE, PoolKey("sorter", "1", "int8"), ("a",), "1-int8"
        )
        self.shadow = Shadow(
            plan,
            shadowed,
            contract=CONTRACT,
            metrics=self.metrics,
            clock=self.clock,
            rng=Random(7),  # noqa: S311
        )
        self.infer = Routed({SOURCE: self.pool}, {SOURCE: [self.shadow]})

    async def ask(self, **changes: Any) -> InferResponse:
        response = await self.infer(asked(**changes))
        await settle()
        return response

    def metric(self, name: str, **labels: str) -> float | None:
        labels = {"model": "sorter", "target": "1-int8", **labels}
        return self.metrics.registry.get_sample_value(f"gateway_shadow_{name}", labels)


async def test_the_client_has_its_answer_while_the_shadow_has_none() -> None:
    shadowed = FakeInfer(lambda _: (answer(0.9, 0.1),))
    shadowed.is_open.clear()
    rig = Rig(shadowed)
    assert (await rig.ask()).outputs == (answer(0.9, 0.1),)
    assert len(shadowed.requests) == 1
    assert rig.metric("requests_total", outcome="equal") == 0.0
    shadowed.is_open.set()
    await settle()
    assert rig.metric("requests_total", outcome="equal") == 1.0


async def test_the_shadow_is_asked_the_same_of_its_own_target_by_a_deadline_of_its_own() -> None:
    shadowed = FakeInfer(lambda _: (answer(0.9, 0.1),))
    rig = Rig(shadowed, timeout_seconds=0.5)
    sent = asked(outputs=("y",), parameters={"gain": 2}, excluded=frozenset({"a"}), key=b"k", id="7")
    await rig.infer(sent)
    await settle()
    (copy,) = shadowed.requests
    assert copy == InferRequest(
        "sorter",
        sent.inputs,
        rig.clock.now + 0.5,
        version="1",
        variant="int8",
        outputs=("y",),
        parameters={"gain": 2},
    )


async def test_answers_within_the_tolerance_are_equal_and_their_distance_is_kept() -> None:
    rig = Rig(FakeInfer(lambda _: (answer(0.8, 0.2),)), tolerance=0.11)
    await rig.ask()
    assert rig.metric("requests_total", outcome="equal") == 1.0
    assert rig.metric("largest_difference_sum") == pytest.approx(0.1)
    assert rig.metric("mean_difference_sum") == pytest.approx(0.1)
    assert rig.metric("label_agreement_total", result="same") == 1.0


async def test_a_wrong_answer_is_different_and_its_label_another() -> None:
    rig = Rig(FakeInfer(lambda _: (answer(0.1, 0.9),)))
    await rig.ask()
    assert rig.metric("requests_total", outcome="different") == 1.0
    assert rig.metric("label_agreement_total", result="other") == 1.0
    assert rig.metric("label_agreement_total", result="same") == 0.0


async def test_an_infinite_difference_leaves_the_sums_finite() -> None:
    rig = Rig(FakeInfer(lambda _: (answer(np.nan, 0.1),)))
    await rig.ask()
    assert rig.metric("requests_total", outcome="different") == 1.0
    assert rig.metric("largest_difference_sum") == INFINITE_DIFFERENCE
    assert rig.metric("largest_difference_bucket", le="100.0") == 0.0


async def test_a_request_that_failed_is_not_sent_on() -> None:
    shadowed = FakeInfer()
    rig = Rig(shadowed, FakeInfer(a_failure()))
    with pytest.raises(type(a_failure())):
        await rig.ask()
    await settle()
    assert shadowed.requests == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (EndpointBusy("full"), "EndpointBusy"),
        (Unavailable("gone"), "unavailable"),
        (KeyError("x"), "internal"),
    ],
)
async def test_what_fails_in_the_shadow_is_counted_there_once_and_reaches_nobody(
    error: Exception, outcome: str
) -> None:
    shadowed = FakeInfer(error)
    rig = Rig(shadowed)
    await rig.ask()
    assert len(shadowed.requests) == 1
    assert rig.metric("requests_total", outcome=outcome) == 1.0
    assert rig.metric("largest_difference_count") == 0.0


async def test_so_many_are_under_way_so_many_wait_and_the_rest_is_dropped() -> None:
    shadowed = FakeInfer(lambda _: (answer(0.9, 0.1),))
    shadowed.is_open.clear()
    rig = Rig(shadowed, max_in_flight=2, max_queued=3)
    for _ in range(8):
        await rig.ask()
    assert len(shadowed.requests) == 2
    assert rig.metric("dropped_total") == 3.0
    shadowed.is_open.set()
    await settle()
    assert rig.metric("requests_total", outcome="equal") == 5.0
    await rig.ask()
    assert rig.metric("dropped_total") == 3.0


async def test_large_tensors_are_dropped_before_many_of_them_fill_the_memory() -> None:
    shadowed = FakeInfer(lambda _: (answer(0.9, 0.1),))
    shadowed.is_open.clear()
    rig = Rig(shadowed)
    large = asked(inputs=(Tensor("x", "FP32", (1, 1), memoryview(bytes(HELD_BYTES))),))
    for request in (large, large):
        await rig.infer(request)
    await settle()
    assert (len(shadowed.requests), rig.metric("dropped_total")) == (1, 1.0)
    shadowed.is_open.set()
    await settle()
    await rig.infer(large)
    assert rig.metric("dropped_total") == 1.0
    await settle()


async def test_the_ratio_is_the_share_that_is_sent_on() -> None:
    shadowed = FakeInfer(lambda _: (answer(0.9, 0.1),))
    rig = Rig(shadowed, ratio=0.25)
    for _ in range(400):
        await rig.infer(asked())
        await settle()
    assert len(shadowed.requests) / 400 == pytest.approx(0.25, abs=0.06)


async def test_large_answers_are_compared_beside_the_event_loop() -> None:
    values = np.linspace(0, 1, 200_000, dtype=np.float32).reshape(1, -1)
    tensor = Tensor.of("y", "FP32", values)
    rig = Rig(FakeInfer(lambda _: (tensor,)), FakeInfer(lambda _: (tensor,)))
    await rig.infer(asked())
    await asyncio.gather(*rig.shadow._tasks)
    assert rig.metric("requests_total", outcome="equal") == 1.0


async def test_what_is_under_way_is_given_up_at_the_end() -> None:
    shadowed = FakeInfer()
    shadowed.is_open.clear()
    rig = Rig(shadowed)
    await rig.ask()
    await rig.shadow.aclose()
    assert shadowed.cancelled == 1
    assert rig.metric("requests_total", outcome="cancelled") == 1.0


async def test_a_request_of_another_pool_is_not_sent_on() -> None:
    shadowed = FakeInfer()
    rig = Rig(shadowed)
    other = PoolKey("sorter", "1", "int8")
    await Routed({other: rig.pool}, {SOURCE: [rig.shadow]})(asked(variant="int8"))
    await settle()
    assert shadowed.requests == []
