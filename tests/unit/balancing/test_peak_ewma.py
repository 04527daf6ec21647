"""The moving average: slow is believed at once and forgotten with time, whether or not anyone asks again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.peak_ewma import MOST_DOUBLINGS, PeakEwma

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


def test_what_was_given_up_is_slow_at_least_to_that_degree() -> None:
    average = PeakEwma(10.0)
    average.observe(0.1, 1000.0)
    average.gave_up(0.05, 1000.0)
    assert average.at(1000.0) == 0.1
    average.gave_up(0.3, 1000.0)
    assert average.at(1000.0) == 0.3


def test_what_is_given_up_again_and_again_without_an_answer_looks_twice_as_slow_each_time() -> None:
    average = PeakEwma(10.0)
    seen = []
    for now in (1001.0, 1002.0, 1003.0):
        average.gave_up(0.1, now)
        seen.append(average.at(now))
    assert seen == pytest.approx([0.1, 0.2, 0.4])
    average.observe(0.01, 1100.0)
    average.gave_up(0.1, 1101.0)
    assert average.at(1101.0) == pytest.approx(0.1)


def test_doubling_ends() -> None:
    average = PeakEwma(10.0)
    for now in range(1000, 1100):
        average.gave_up(0.1, float(now))
    assert average.at(1099.0) == pytest.approx(0.1 * 2**MOST_DOUBLINGS)


def test_those_given_up_together_count_as_one() -> None:
    average = PeakEwma(10.0)
    for now in (1001.0, 1001.01, 1001.02):
        average.gave_up(0.1, now)
    assert average.at(1001.02) == pytest.approx(0.1, rel=0.01)
    average.observe(0.01, 1050.0)
    average.gave_up(50.0, 1050.0)
    assert average.at(1050.0) == 50.0
