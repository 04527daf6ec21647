"""What replicas are computed with: it keeps its own promises, and agrees with queues that are simulated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.sizing.formula import (
    SHARE_WITHOUT_ONE,
    TARGET_SHARE,
    in_flight_target,
    largest_share,
    replicas,
    request_us,
    wait_p99_seconds,
)

EXPONENTIAL, CONSTANT = 1.0, 0.0


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0.5, 8))
def test_replicas_are_not_too_busy_with_all_of_them_nor_without_one(
    rate: float, cpu_us: float, cores: float
) -> None:
    count, demand = replicas(rate, cpu_us, cores), rate * cpu_us / 1e6 / cores
    assert demand <= count * TARGET_SHARE * (1 + 1e-9)
    assert demand <= (count - 1) * SHARE_WITHOUT_ONE * (1 + 1e-9)


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_with_one_replica_less_one_of_both_would_not_hold(rate: float, cpu_us: float) -> None:
    less, demand = replicas(rate, cpu_us) - 1, rate * cpu_us / 1e6
    assert demand > less * TARGET_SHARE * (1 - 1e-9) or demand > (less - 1) * SHARE_WITHOUT_ONE * (1 - 1e-9)


def test_little_traffic_has_two_replicas() -> None:
    assert replicas(0.1, 100) == 2


def test_hits_and_misses_cost_what_their_shares_say() -> None:
    assert request_us(10, 100, 0.9) == pytest.approx(19)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.8])
@pytest.mark.parametrize(("variation", "most"), [(EXPONENTIAL, 1.05), (CONSTANT, 1.2)])
def test_the_wait_is_that_of_a_simulated_queue_or_a_little_more(
    variation: float, most: float, share: float
) -> None:
    """Lindley's recursion: who comes waits as long as the one before, and its service, less the gap."""
    rng = np.random.default_rng(7)
    count = 400_000
    service = rng.exponential(1.0, count) if variation == EXPONENTIAL else np.ones(count)
    steps = np.cumsum(service - rng.exponential(1 / share, count))
    waits = steps - np.minimum.accumulate(np.minimum(steps, 0.0))
    simulated = float(np.quantile(waits, 0.99))
    assert 0.95 < wait_p99_seconds(1.0, share, variation) / simulated < most


@given(st.floats(1e-4, 0.1), st.floats(1e-3, 1.0))
def test_at_the_largest_share_the_p99_is_kept(service: float, p99: float) -> None:
    share = largest_share(service, p99)
    assert share <= TARGET_SHARE
    if share:
        assert service + wait_p99_seconds(service, share) <= p99
    else:
        assert service + wait_p99_seconds(service, 0.01) > p99


def test_in_flight_is_rate_times_latency_in_whole_steps() -> None:
    assert in_flight_target(100.0) == 296  # 6,000 a second for 50 ms are 300
    assert in_flight_target(1e6) == 8
