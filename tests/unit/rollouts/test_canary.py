"""The draw of a canary: by weight, and the same for a caller as long as the weight is."""

from random import Random

import pytest

from gateway.inference import PoolKey
from gateway.rollouts.canary import Canary, place

STABLE, TRIAL = PoolKey("adder", "1", "fp32"), PoolKey("adder", "2", "fp32")
CANARY = Canary(STABLE, TRIAL)
CALLERS = [f"caller-{number}" for number in range(2000)]


def share(weight: float, callers: list[str]) -> float:
    rng = Random(7)  # noqa: S311
    return sum(CANARY.draw(weight, caller, rng) == TRIAL for caller in callers) / len(callers)


@pytest.mark.parametrize("callers", [CALLERS, [""] * 2000], ids=["kept on a side", "by chance"])
@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
def test_the_share_of_the_trial_is_the_weight(weight: float, callers: list[str]) -> None:
    assert share(weight, callers) == pytest.approx(weight, abs=0.03 if 0 < weight < 1 else 0)


def test_a_caller_always_gets_the_same_side_for_one_weight() -> None:
    sides = [{CANARY.draw(0.5, caller, Random(seed)) for seed in range(5)} for caller in CALLERS[:100]]  # noqa: S311
    assert {len(side) for side in sides} == {1}


def test_a_larger_weight_moves_callers_only_from_stable_to_trial() -> None:
    rng = Random(7)  # noqa: S311
    before = {caller for caller in CALLERS if CANARY.draw(0.2, caller, rng) == TRIAL}
    after = {caller for caller in CALLERS if CANARY.draw(0.3, caller, rng) == TRIAL}
    assert before < after


def test_two_models_do_not_put_the_same_callers_on_trial() -> None:
    first, second = ({c for c in CALLERS if place(model, c) < 0.5} for model in ("adder", "other"))
    assert len(first & second) / len(CALLERS) == pytest.approx(0.25, abs=0.05)
