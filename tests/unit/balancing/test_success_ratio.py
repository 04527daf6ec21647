"""Success ratio: counts over a window, and who fails clearly more often than the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.success_ratio import SLOTS, AnswerCounts, Answers, is_outlier

WINDOW_SECONDS = 10.0


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_what_is_younger_than_the_window_less_a_part_counts_and_what_is_older_does_not(
    steps: list[tuple[float, bool]],
) -> None:
    counts = AnswerCounts(WINDOW_SECONDS)
    now, seen = 1000.0, []
    for passed, failed in steps:
        now += passed
        counts.observe(now, failed=failed)
        seen.append((now, failed))
    counted = counts.at(now)
    part = WINDOW_SECONDS / SLOTS
    surely = [failed for at, failed in seen if at > now - WINDOW_SECONDS + part + 1e-6]
    at_most = [failed for at, failed in seen if at > now - WINDOW_SECONDS - 1e-6]
    assert len(surely) <= counted.total <= len(at_most)
    assert sum(surely) <= counted.failed <= sum(at_most)


def test_after_a_silence_nothing_is_left() -> None:
    counts = AnswerCounts(WINDOW_SECONDS)
    counts.observe(0.0, failed=True)
    assert counts.at(9.9) == Answers(1, 1)
    assert counts.at(10.1) == Answers(0, 0)


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (Answers(100, 50), Answers(100, 0), True),
        (Answers(100, 21), Answers(100, 0), True),
        (Answers(100, 19), Answers(100, 0), False),
        (Answers(100, 50), Answers(300, 150), False),
        (Answers(100, 100), Answers(100, 70), True),
        (Answers(100, 0), Answers(100, 100), False),
        (Answers(19, 19), Answers(100, 0), False),
        (Answers(100, 100), Answers(19, 0), False),
        (Answers(0, 0), Answers(0, 0), False),
    ],
    ids=[
        "half",
        "just over the margin",
        "just within it",
        "all alike",
        "bad among the poor",
        "the best one",
        "too few of its own",
        "too few of the others",
        "none",
    ],
)
def test_an_outlier_is_worse_than_the_others_by_more_than_the_margin(
    own: Answers, others: Answers, *, expected: bool
) -> None:
    assert is_outlier(own, others, margin_ratio=0.2, min_requests=20) is expected
