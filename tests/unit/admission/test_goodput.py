"""The whole stage over simulated engines, in virtual time: what is answered in time under overload."""

import asyncio
from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Any

import pytest

from gateway.admission.gate import GateRules
from tests.unit.admission.simulated import Outcome, SimulatedEngine, admitted, in_virtual_time, offer

ENGINES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "batching": {"workers": 1, "max_batch": 32, "base_seconds": 0.02, "item_seconds": 0.002},
        "one worker": {"workers": 1, "max_batch": 1, "base_seconds": 0.04, "item_seconds": 0.0},
        "four slow workers": {"workers": 4, "max_batch": 1, "base_seconds": 0.5, "item_seconds": 0.0},
    }
)
SECONDS: Mapping[str, float] = MappingProxyType(
    {"batching": 12.0, "one worker": 60.0, "four slow workers": 120.0}
)


def run(
    engine: str, load: float, *, deadlines: Mapping[float, float], **options: Any
) -> tuple[Outcome, float]:
    """What came of `load` times the capacity, and that capacity."""
    rng = Random(7)  # noqa: S311
    simulated = SimulatedEngine(rng=rng, **ENGINES[engine])
    has_admission = options.pop("has_admission", True)

    async def offered() -> Outcome:
        rules = options.pop("rules", GateRules())
        infer = admitted(simulated, rules) if has_admission else simulated
        rate = load * simulated.capacity
        seconds = SECONDS[engine]
        return await offer(infer, rate=rate, seconds=seconds, deadlines=deadlines, rng=rng, **options)

    return in_virtual_time(offered()), simulated.capacity


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("load", [2.0, 3.0])
@pytest.mark.parametrize("deadline", [2.5, 10.0])
def test_under_overload_nine_tenths_of_capacity_are_answered_in_time(
    engine: str, load: float, deadline: float
) -> None:
    outcome, capacity = run(engine, load, deadlines={deadline: 1.0})
    assert outcome.goodput >= 0.9 * capacity
    assert outcome.late <= 0.05 * sum(outcome.good.values())


def test_deadlines_below_the_latency_goal_are_met_too() -> None:
    outcome, capacity = run("one worker", 2.0, deadlines={0.24: 1.0})  # the goal is 0.25 s
    assert outcome.goodput >= 0.85 * capacity


def test_without_admission_all_of_them_are_late() -> None:
    outcome, capacity = run("one worker", 2.0, deadlines={2.5: 1.0}, has_admission=False)
    assert outcome.goodput < 0.1 * capacity


@pytest.mark.parametrize("engine", list(ENGINES))
def test_below_capacity_next_to_nothing_is_shed(engine: str) -> None:
    outcome, _ = run(engine, 0.7, deadlines={10.0: 1.0})
    assert not outcome.shed
    assert not outcome.late


def test_impatient_callers_do_not_take_the_batches_from_the_patient() -> None:
    outcome, capacity = run("batching", 2.0, deadlines={0.001: 1.0, 10.0: 3.0})
    assert outcome.goodput >= 0.9 * capacity


def test_low_priority_is_shed_first() -> None:
    outcome, capacity = run("one worker", 2.0, deadlines={2.5: 1.0}, high_ratio=0.25)
    assert outcome.goodput >= 0.9 * capacity
    assert outcome.shed.get(1, 0) <= 0.01 * outcome.good[1]
    assert outcome.shed[0] > outcome.good[0]


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, _ = run("one worker", 2.0, deadlines={2.5: 1.0})
    second, _ = run("one worker", 2.0, deadlines={2.5: 1.0})
    assert first == second


def test_the_virtual_clock_waits_for_nothing() -> None:
    async def sleep() -> float:
        await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time()

    assert in_virtual_time(sleep()) == pytest.approx(3600.0)
