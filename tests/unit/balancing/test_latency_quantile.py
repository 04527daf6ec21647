"""A quantile of a pool's latency: right to 5 %, of the last windows only."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.latency_quantile import (
    FRESH_SECONDS,
    MIN_OBSERVATIONS,
    WINDOW_SECONDS,
    LatencyQuantile,
)


def told(values: list[float], *, quantile: float = 0.95, now: float = 1000.0) -> LatencyQuantile:
    latency = LatencyQuantile(quantile)
    for value in values:
        latency.observe(value, now)
    return latency


def test_before_there_are_enough_observations_it_is_infinite() -> None:
    assert told([0.1] * (MIN_OBSERVATIONS - 1)).at(1000.0) == math.inf
    assert told([0.1] * MIN_OBSERVATIONS).at(1000.0) == pytest.approx(0.1, rel=0.05)


@given(
    st.lists(st.floats(1e-4, 100), min_size=MIN_OBSERVATIONS, max_size=400),
    st.sampled_from([0.5, 0.95, 0.99, 1.0]),
)
def test_it_is_the_true_quantile_or_at_most_5_percent_above(values: list[float], quantile: float) -> None:
    true = sorted(values)[math.ceil(quantile * len(values)) - 1]
    assert true * 0.999999 <= told(values, quantile=quantile).at(1000.0) <= true * 1.050001


def test_of_exponential_latencies_a_twentieth_is_above_it() -> None:
    rng = Random(7)  # noqa: S311
    values = [rng.expovariate(100) for _ in range(20_000)]
    latency = told(values[:10_000]).at(1000.0)
    assert sum(value > latency for value in values[10_000:]) / 10_000 == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, 1e-4), (-1.0, 1e-4), (1e6, 120.0)])
def test_what_is_out_of_range_counts_as_the_nearest(seconds: float, shown: float) -> None:
    assert told([seconds] * MIN_OBSERVATIONS).at(1000.0) == pytest.approx(shown, rel=0.06)


def test_what_is_older_than_two_windows_is_forgotten() -> None:
    latency = told([1.0] * 1000)
    assert latency.at(1000.0 + WINDOW_SECONDS) == pytest.approx(1.0, rel=0.05)
    for _ in range(500):
        latency.observe(0.01, 1000.0 + WINDOW_SECONDS)
    assert latency.at(1000.0 + 2 * WINDOW_SECONDS - 1) == pytest.approx(1.0, rel=0.05)
    assert latency.at(1000.0 + 2 * WINDOW_SECONDS) == pytest.approx(0.01, rel=0.05)


def test_after_a_long_silence_nothing_is_known() -> None:
    latency = told([1.0] * 1000)
    assert latency.at(1000.0 + 3 * WINDOW_SECONDS) == math.inf


def test_a_quantile_that_was_computed_is_told_for_a_moment() -> None:
    latency = told([0.01] * 100)
    assert latency.at(1000.0) == pytest.approx(0.01, rel=0.05)
    for _ in range(100):
        latency.observe(1.0, 1000.0)
    assert latency.at(1000.0 + FRESH_SECONDS / 2) == pytest.approx(0.01, rel=0.05)
    assert latency.at(1000.0 + FRESH_SECONDS) == pytest.approx(1.0, rel=0.05)
