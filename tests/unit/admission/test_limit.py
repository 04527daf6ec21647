"""AdaptiveLimit: up while answers are fast enough, down when they are not."""

import math

from gateway.admission.limit import FIRST_REQUESTS, AdaptiveLimit, LimitRules


def a_limit(*, patience_seconds: float = 10.0, **rules: float) -> AdaptiveLimit:
    limit = AdaptiveLimit(LimitRules(**rules))  # type: ignore[arg-type]
    limit.sent(patience_seconds)
    return limit


def answer(limit: AdaptiveLimit, seconds: float, times: int, *, in_flight: int = 0, now: float = 0.0) -> None:
    """So many answers, one round trip apart, the limit in full use unless `in_flight` says otherwise."""
    for turn in range(times):
        busy = in_flight or limit.requests
        limit.answered(seconds, now + turn * seconds, in_flight=busy, was_alone=False)


def test_it_doubles_every_round_trip_until_the_first_slow_answer() -> None:
    limit = a_limit()
    for _ in range(3):
        answer(limit, 0.01, limit.requests)
    assert limit.requests == FIRST_REQUESTS * 8


def test_after_the_first_decrease_it_grows_by_one_a_round_trip_at_the_least() -> None:
    limit = a_limit()
    answer(limit, 1.0, 1)
    assert limit.requests == 7
    answer(limit, 0.01, 40, now=10.0)  # the mean falls below the goal meanwhile
    before = limit.requests
    answer(limit, 0.01, before, now=11.0)
    assert before + 1 <= limit.requests <= before + 3


def test_it_does_not_grow_while_less_than_half_of_it_is_in_use() -> None:
    limit = a_limit()
    answer(limit, 0.01, 100, in_flight=3)
    assert limit.requests == FIRST_REQUESTS


def test_it_keeps_to_its_bounds() -> None:
    limit = a_limit(min_requests=3, max_requests=20)
    answer(limit, 0.01, 200)
    assert limit.requests == 20
    answer(limit, 5.0, 200)
    assert limit.requests == 3


def test_it_falls_once_a_round_trip_however_many_answers_are_slow() -> None:
    limit = a_limit()
    for _ in range(8):
        limit.answered(1.0, 5.0, in_flight=8, was_alone=False)
    assert limit.requests == 7


def test_an_engine_that_is_slow_for_one_request_may_be_twice_as_slow_for_many() -> None:
    limit = a_limit()
    limit.answered(1.0, 0.0, in_flight=1, was_alone=True)
    answer(limit, 1.9, 50, now=1.0)
    assert limit.requests > FIRST_REQUESTS
    answer(limit, 2.2, 50, now=100.0)
    assert limit.requests < FIRST_REQUESTS


def test_impatient_callers_make_the_goal_their_own() -> None:
    patient, impatient = a_limit(patience_seconds=10.0), a_limit(patience_seconds=0.1)
    for limit in (patient, impatient):
        limit.answered(0.02, 0.0, in_flight=1, was_alone=True)
        answer(limit, 0.15, 50, now=1.0)
    assert patient.requests > FIRST_REQUESTS > impatient.requests


def test_who_has_no_deadline_says_nothing_of_the_callers_patience() -> None:
    limit = a_limit(patience_seconds=0.1)
    for _ in range(100):
        limit.sent(math.inf)
    answer(limit, 0.15, 50, now=1.0)
    assert limit.requests < FIRST_REQUESTS


def test_no_patience_makes_an_engine_faster_than_it_is_alone() -> None:
    limit = a_limit(patience_seconds=0.05)
    limit.answered(0.1, 0.0, in_flight=1, was_alone=True)
    answer(limit, 0.11, 50, now=1.0)
    assert limit.requests > FIRST_REQUESTS


def test_one_slow_answer_is_no_overload() -> None:
    limit = a_limit()
    answer(limit, 0.01, 20)
    before = limit.requests
    limit.answered(2.5, 10.0, in_flight=1, was_alone=False)
    assert limit.requests == before


def test_what_was_given_up_early_says_nothing_and_what_was_given_up_late_is_slow() -> None:
    limit = a_limit(patience_seconds=0.5)
    answer(limit, 0.2, 20)
    before = limit.requests
    limit.abandoned(0.1, 100.0, in_flight=8)
    assert limit.requests == before
    for turn in range(10):
        limit.abandoned(0.5, 101.0 + turn, in_flight=8)
    assert limit.requests < before


def test_a_pool_that_takes_nothing_is_sent_less() -> None:
    limit = a_limit()
    limit.refused(1.0)
    assert limit.requests < FIRST_REQUESTS


def test_waits_come_from_the_measured_rate() -> None:
    limit = a_limit()
    assert limit.wait_seconds(10) == 0.0  # nothing is known
    answer(limit, 0.1, 1, in_flight=8)
    assert abs(limit.wait_seconds(40) - 40 / (8 / 0.1)) < 1e-9
    assert limit.answer_seconds(7) == limit.wait_seconds(8)


def test_an_answer_takes_no_less_than_one_that_was_alone() -> None:
    limit = a_limit()
    limit.answered(0.3, 0.0, in_flight=1, was_alone=True)
    answer(limit, 0.3, 50, in_flight=30)
    assert limit.answer_seconds(0) == 0.3
