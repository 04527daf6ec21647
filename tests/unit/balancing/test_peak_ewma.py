"""The moving average: slow is believed at once and forgotten with time, whether or not anyone asks again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.peak_ewma import PeakEwma

latencies = st.floats(0, 100)


def test_before_the_first_answer_it_is_nought() -> None:
    assert PeakEwma(10).at(5.0) == 0


def test_a_slower_answer_is_believed_at_once() -> None:
    latency = PeakEwma(10)
    latency.observe(0.1, 0.0)
    latency.observe(2.5, 0.0)
    assert latency.at(0.0) == 2.5


def test_a_faster_answer_counts_by_the_time_that_has_passed() -> None:
    latency = PeakEwma(10)
    latency.observe(1.0, 0.0)
    latency.observe(0.0, 10.0)
    assert latency.at(10.0) == pytest.approx(1 / math.e)


def test_a_faster_answer_at_the_same_moment_changes_nothing() -> None:
    latency = PeakEwma(10)
    latency.observe(1.0, 0.0)
    latency.observe(0.1, 0.0)
    assert latency.at(0.0) == 1.0


def test_a_peak_is_forgotten_though_nobody_is_asked_again() -> None:
    """Else an endpoint that was slow once would never be asked, and so never be seen to be fast again."""
    latency = PeakEwma(10)
    latency.observe(2.5, 0.0)
    assert latency.at(10.0) == pytest.approx(2.5 / math.e)
    assert latency.at(100.0) < 0.001


def test_a_clock_that_steps_back_makes_nobody_slower() -> None:
    latency = PeakEwma(10)
    latency.observe(1.0, 100.0)
    latency.observe(0.5, 90.0)
    assert latency.at(0.0) <= 1.0


@given(st.lists(st.tuples(latencies, st.floats(0, 60)), min_size=1, max_size=50), st.floats(0, 60))
def test_it_never_leaves_the_range_of_what_was_seen(steps: list[tuple[float, float]], later: float) -> None:
    latency = PeakEwma(10)
    now = 0.0
    for seconds, passed in steps:
        now += passed
        latency.observe(seconds, now)
        assert latency.at(now) >= seconds * (1 - 1e-9)
    assert 0 <= latency.at(now + later) <= latency.at(now) <= max(seconds for seconds, _ in steps)
