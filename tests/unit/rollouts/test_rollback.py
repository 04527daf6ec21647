"""When a canary must go: by its failures, by its p99, and not before it has been seen enough."""

import pytest

from gateway.rollouts.rollback import KEPT, Bounds, Outcomes, has_too_many_errors, why_too_slow

BOUNDS = Bounds(max_error_ratio=0.1, max_p99_ratio=2.0, max_p99_seconds=1.0, min_requests=20)


def outcomes(*seconds: float | None, window_seconds: float = 60.0) -> Outcomes:
    """One outcome a second, from second 0 on."""
    made = Outcomes(window_seconds)
    for now, took in enumerate(seconds):
        made.add(float(now), took)
    return made


def test_failures_within_the_bound_are_borne_and_one_more_is_not() -> None:
    within, over = outcomes(*[0.1] * 18, None, None), outcomes(*[0.1] * 17, None, None, None)
    assert not has_too_many_errors(within, outcomes(), BOUNDS)
    assert has_too_many_errors(over, outcomes(), BOUNDS)


def test_a_canary_that_fails_every_request_goes_before_it_has_had_many() -> None:
    assert not has_too_many_errors(outcomes(None, None), outcomes(), BOUNDS)
    assert has_too_many_errors(outcomes(None, None, None), outcomes(), BOUNDS)


def test_what_the_stable_side_fails_as_well_is_not_held_against_the_canary() -> None:
    half = outcomes(*[0.1, None] * 10)
    assert has_too_many_errors(half, outcomes(*[0.1] * 20), BOUNDS)
    assert not has_too_many_errors(half, half, BOUNDS)


def test_a_stable_side_with_few_requests_excuses_nothing() -> None:
    assert has_too_many_errors(outcomes(*[0.1, None] * 10), outcomes(None, None), BOUNDS)


@pytest.mark.parametrize(
    ("trial", "stable", "why"),
    [
        ([0.1] * 20, [0.1] * 20, ""),
        ([0.3] * 20, [0.1] * 20, "over 2 times the stable 0.1 s"),
        ([1.5] * 20, [1.4] * 20, "over 1 s"),
        ([0.3] * 19, [0.1] * 20, ""),  # the canary has been seen too little
        ([0.3] * 20, [0.1] * 19, ""),  # and the stable side
        ([0.1] * 19 + [0.3], [0.1] * 20, "over 2 times"),  # p99 of twenty is the slowest
        ([0.1] * 199 + [0.3], [0.1] * 20, ""),  # of two hundred it is not
    ],
)
def test_p99_is_held_against_a_time_and_against_the_stable_side(
    trial: list[float], stable: list[float], why: str
) -> None:
    told = why_too_slow(outcomes(*trial, window_seconds=1e3), outcomes(*stable, window_seconds=1e3), BOUNDS)
    assert why in told
    assert bool(told) is bool(why)


def test_without_bounds_on_latency_any_will_do() -> None:
    slow, quick = outcomes(*[9.0] * 200, window_seconds=1e3), outcomes(*[0.1] * 200, window_seconds=1e3)
    assert why_too_slow(slow, quick, Bounds()) == ""


def test_a_failure_is_no_fast_answer() -> None:
    assert outcomes(*[None] * 50, 0.5).p99() == 0.5


def test_an_outcome_counts_as_long_as_the_window_is() -> None:
    seen = outcomes(None, 0.1, None, window_seconds=10.0)
    seen.expire(9.9)
    assert (len(seen), seen.errors) == (3, 2)
    seen.expire(10.0)
    assert (len(seen), seen.errors) == (2, 1)
    seen.expire(100.0)
    assert (len(seen), seen.errors, seen.error_ratio, seen.p99()) == (0, 0, 0.0, 0.0)


def test_however_many_come_in_a_window_only_the_latest_are_kept() -> None:
    seen = Outcomes(60.0)
    for _ in range(KEPT):
        seen.add(0.0, None)
    for _ in range(KEPT):
        seen.add(1.0, 0.1)
    assert (len(seen), seen.errors) == (KEPT, 0)
