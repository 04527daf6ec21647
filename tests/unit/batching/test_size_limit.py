"""The size of a batch grows while it is answered in time, and shrinks when it is not."""

import math

from gateway.batching.size_limit import SizeLimit

GOAL_SECONDS = 0.1


def fed(limit: SizeLimit, base_seconds: float, row_seconds: float, batches: int = 300) -> SizeLimit:
    """The limit after full batches of an engine that takes so long."""
    for _ in range(batches):
        seconds = base_seconds + row_seconds * limit.rows
        limit.answered(seconds, was_full=True, spare_seconds=math.inf)
    return limit


def test_a_cheap_model_gets_the_largest_batches_within_a_few() -> None:
    assert fed(SizeLimit(32, GOAL_SECONDS), 0.001, 0.0001, batches=4).rows == 32


def test_the_size_settles_where_the_goal_is_met() -> None:
    limit = fed(SizeLimit(64, GOAL_SECONDS), 0.01, 0.005)  # 18 rows take 0.1 s
    assert 15 <= limit.rows <= 19


def test_it_never_rises_above_the_models_largest_batch_nor_falls_below_one() -> None:
    assert fed(SizeLimit(2, GOAL_SECONDS), 0.0, 0.0).rows == 2
    assert fed(SizeLimit(32, GOAL_SECONDS), 1.0, 1.0).rows == 1


def test_it_does_not_grow_while_batches_are_not_full() -> None:
    limit = SizeLimit(32, GOAL_SECONDS)
    before = limit.rows
    limit.answered(0.001, was_full=False, spare_seconds=math.inf)
    assert limit.rows == before


def test_the_least_patient_callers_deadline_is_the_goal_when_it_is_nearer() -> None:
    limit = fed(SizeLimit(32, GOAL_SECONDS), 0.001, 0.0001)
    for _ in range(10):
        limit.answered(0.05, was_full=True, spare_seconds=0.04)
    assert limit.rows < 16


def test_a_model_that_is_slow_for_one_alone_may_take_twice_that() -> None:
    limit = SizeLimit(32, GOAL_SECONDS)
    limit.answered_alone(0.5)
    assert fed(limit, 0.5, 0.001).rows == 32
    limit.answered_alone(0.01)  # so the half second was a hiccup
    assert fed(limit, 0.5, 0.001).rows == 1
