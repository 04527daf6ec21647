"""The pace of questions: often while there are few to ask, evenly spread when there are many."""

import heapq
from collections import Counter
from itertools import pairwise

from gateway.balancing.pace import Pace


def asked(endpoints: int, seconds: float, *, interval: float = 0.5, most: float = 200.0) -> list[list[float]]:
    """When each of so many endpoints is asked, from 0 on, when all begin together and answer at once."""
    pace = Pace(interval, most)
    times: list[list[float]] = [[] for _ in range(endpoints)]
    due = [(0.0, endpoint) for endpoint in range(endpoints)]
    while due[0][0] < seconds:
        now, endpoint = heapq.heappop(due)
        times[endpoint].append(now)
        heapq.heappush(due, (now + pace.pause(now), endpoint))
    return times


def gaps(times: list[list[float]]) -> list[float]:
    """Between two questions to one endpoint; the first follows the beginning, which was at once."""
    return [later - earlier for each in times for earlier, later in pairwise(each[1:])]


def test_the_first_question_does_not_wait_for_those_that_nobody_asked() -> None:
    assert Pace(0.5, 0.001).pause(1.0) == 0.5  # one second after the machine was started


def test_while_they_are_few_each_is_asked_once_an_interval() -> None:
    for endpoints in (1, 20, 99):
        assert all(0.499 < gap < 0.501 for gap in gaps(asked(endpoints, 20.0)))


def test_many_are_asked_in_turn_and_no_more_than_so_many_a_second() -> None:
    times = asked(1000, 60.0)
    a_second = Counter(int(at) for each in times for at in each if at > 0)
    assert max(a_second.values()) <= 201
    assert 4.5 < min(gaps(times)) <= max(gaps(times)) < 5.5


def test_none_is_asked_again_before_its_interval_is_over() -> None:
    assert min(gaps(asked(300, 30.0, interval=2.0))) > 1.99
