"""The retry budget: retries are a share of the traffic, with a floor, and never a storm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.retry_budget import BURST_SECONDS, WINDOW_SECONDS, RetryBudget


def test_without_traffic_and_floor_there_is_no_retry() -> None:
    assert not RetryBudget(ratio=0.5, floor_per_second=0).withdraw(0.0)


def test_one_retry_is_paid_for_by_as_many_requests_as_the_ratio_says() -> None:
    budget = RetryBudget(ratio=0.25, floor_per_second=0)
    granted = []
    for _ in range(8):
        budget.deposit(0.0)
        granted.append(budget.withdraw(0.0))
    assert granted == [False, False, False, True] * 2


def test_the_floor_holds_a_seconds_worth_from_the_start() -> None:
    budget = RetryBudget(ratio=0, floor_per_second=2)
    assert sum(budget.withdraw(5.0) for _ in range(100)) == 2 * BURST_SECONDS


def test_the_floor_fills_up_again_with_time_and_no_further_than_that() -> None:
    budget = RetryBudget(ratio=0, floor_per_second=2)
    while budget.withdraw(0.0):
        pass
    assert [budget.withdraw(0.25), budget.withdraw(0.5), budget.withdraw(0.5)] == [False, True, False]
    assert sum(budget.withdraw(1000.0) for _ in range(100)) == 2 * BURST_SECONDS


def test_old_requests_pay_for_nothing() -> None:
    budget = RetryBudget(ratio=1, floor_per_second=0)
    for _ in range(10):
        budget.deposit(0.0)
    assert not budget.withdraw(10 * WINDOW_SECONDS)


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    budget = RetryBudget(ratio=0, floor_per_second=1)
    while budget.withdraw(100.0):
        pass
    assert not budget.withdraw(0.0)
    assert not budget.withdraw(100.0)


@given(
    st.floats(0, 1),
    st.floats(0, 20),
    st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=300),
)
def test_calls_never_exceed_the_share_of_requests_and_the_floor(
    ratio: float, floor: float, steps: list[tuple[bool, float]]
) -> None:
    budget = RetryBudget(ratio=ratio, floor_per_second=floor)
    now = requests = retries = 0.0
    for is_request, passed in steps:
        now += passed
        if is_request:
            budget.deposit(now)
            requests += 1
        else:
            retries += budget.withdraw(now)
    assert retries <= ratio * requests + floor * (BURST_SECONDS + now) + 1e-6


@pytest.mark.parametrize("failures", [10, 1000])
def test_when_every_call_fails_a_burst_costs_the_share_and_one_seconds_floor(failures: int) -> None:
    budget = RetryBudget(ratio=0.2, floor_per_second=10)
    calls = 0
    for _ in range(failures):
        budget.deposit(0.0)
        calls += 1
        while budget.withdraw(0.0):
            calls += 1
    assert calls <= (1 + 0.2) * failures + 10 * BURST_SECONDS
