"""Passive health: consecutive failures eject, longer each time, and one trial decides what comes then."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.outlier import GIVEN_UP_TO_SUSPECT, Outlier, OutlierRules

RULES = OutlierRules(consecutive_failures=3, ejection_seconds=1.0, max_ejection_seconds=30.0)


def ejected_at(now: float) -> Outlier:
    outlier = Outlier(RULES)
    for _ in range(RULES.consecutive_failures):
        outlier.failed(now)
    return outlier


def test_so_many_failures_in_a_row_eject() -> None:
    outlier = Outlier(RULES)
    assert [outlier.failed(10.0) for _ in range(3)] == [False, False, True]
    assert outlier.is_ejected(10.9)


def test_an_answer_between_starts_the_count_again() -> None:
    outlier = Outlier(RULES)
    for _ in range(10):
        outlier.failed(0.0)
        outlier.failed(0.0)
        outlier.succeeded()
    assert not outlier.is_ejected(0.0)


def test_an_ejection_ends_by_itself_in_probation() -> None:
    outlier = ejected_at(10.0)
    assert outlier.ejected_until == 11.0
    assert not outlier.is_ejected(11.0)
    assert outlier.on_probation


def test_one_answer_ends_the_probation() -> None:
    outlier = ejected_at(10.0)
    outlier.succeeded()
    assert not outlier.on_probation
    assert [outlier.failed(12.0) for _ in range(2)] == [False, False]


def test_one_failure_on_probation_ejects_again_for_twice_as_long() -> None:
    outlier = ejected_at(10.0)
    assert outlier.failed(11.0)
    assert outlier.ejected_until == 13.0


def test_failures_of_what_was_sent_before_the_ejection_do_not_lengthen_it() -> None:
    outlier = ejected_at(10.0)
    assert not any(outlier.failed(10.5) for _ in range(10))
    assert outlier.ejected_until == 11.0
    assert outlier.failed(11.0)
    assert outlier.ejected_until == 13.0


def test_an_answer_to_what_was_sent_during_an_ejection_ends_it() -> None:
    outlier = ejected_at(10.0)
    outlier.succeeded(10.5)
    assert not outlier.is_ejected(10.5)
    assert not outlier.on_probation


def test_what_was_sent_before_the_ejection_tells_nothing_new_even_after_it() -> None:
    outlier = ejected_at(10.0)
    outlier.succeeded(9.9)
    assert outlier.on_probation
    assert not outlier.failed(12.0, 9.9)
    assert not outlier.is_ejected(12.0)


def test_after_an_answer_the_back_off_starts_from_the_beginning() -> None:
    outlier = ejected_at(0.0)
    for now in (1.0, 3.0, 7.0):
        assert outlier.failed(now)
    outlier.succeeded()
    for _ in range(3):
        outlier.failed(100.0)
    assert outlier.ejected_until == 101.0


def test_ejections_double_up_to_the_longest_and_stay_there_for_ever() -> None:
    outlier = ejected_at(0.0)
    lengths = [outlier.ejected_until]
    for _ in range(3000):
        now = outlier.ejected_until
        assert outlier.failed(now)
        lengths.append(outlier.ejected_until - now)
    assert lengths[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert lengths[-1] == 30


@pytest.mark.parametrize("rules", [OutlierRules(1, 5.0, 2.0)])
def test_no_ejection_is_longer_than_the_longest(rules: OutlierRules) -> None:
    outlier = Outlier(rules)
    assert outlier.failed(0.0)
    assert outlier.ejected_until == 2.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=100))
def test_an_ejection_is_never_shorter_than_the_first_nor_longer_than_the_longest(
    steps: list[tuple[bool, float]],
) -> None:
    outlier = Outlier(RULES)
    now = 0.0
    for answered, passed in steps:
        now += passed
        if answered:
            outlier.succeeded()
        elif outlier.failed(now):
            assert 1.0 - 1e-9 <= outlier.ejected_until - now <= 30.0 + 1e-9
            assert outlier.is_ejected(now)
            assert outlier.on_probation


def test_what_nobody_waits_for_again_and_again_is_suspect_until_it_answers() -> None:
    outlier = Outlier(RULES)
    suspected = []
    for _ in range(GIVEN_UP_TO_SUSPECT):
        suspected.append(outlier.is_suspect)
        outlier.gave_up()
    assert not any(suspected)
    assert (outlier.is_suspect, outlier.is_ejected(0.0)) == (True, False)
    outlier.succeeded()
    suspected = [outlier.is_suspect]
    assert suspected == [False]


def test_an_answer_to_the_health_check_ends_only_the_suspicion_of_silence() -> None:
    outlier = Outlier(RULES)
    outlier.failed(0.0)
    for _ in range(GIVEN_UP_TO_SUSPECT):
        outlier.gave_up()
    outlier.answered_when_asked()
    assert outlier.is_suspect
    outlier.succeeded()
    assert not outlier.is_suspect
