"""Gate: who is sent, who waits, who is shed."""

from dataclasses import dataclass

import pytest

from gateway.admission.gate import Gate, GateRules, Reason
from gateway.admission.limit import LimitRules
from gateway.admission.queue import Place


@dataclass(eq=False)
class Caller:
    has_left: bool = False


def a_gate(limit: int = 2, queue: int = 3, queue_bytes: int = 1000, *, seconds: float = 0.1) -> Gate[Caller]:
    """A full gate whose pool answers `limit` requests in `seconds` each."""
    gate: Gate[Caller] = Gate(GateRules(LimitRules(limit, limit), queue, queue_bytes))
    for _ in range(limit):
        assert gate.enter()
    gate.limit.sent(10.0)
    if seconds:
        gate.limit.answered(seconds, 0.0, in_flight=limit, was_alone=False)
    return gate


def a_place(gate: Gate[Caller], priority: int = 5, deadline: float = 1e9, size: int = 1) -> Place[Caller]:
    return gate.queue.place(priority, deadline, size, Caller())


def wait(gate: Gate[Caller], priority: int = 5, deadline: float = 1e9, size: int = 1) -> Caller:
    place = a_place(gate, priority, deadline, size)
    reason, _ = gate.join(place, now=0.0)
    assert reason is None
    return place.waiter


def free(gate: Gate[Caller], now: float = 0.0) -> list[Caller]:
    gate.in_flight -= 1
    return gate.turns(now).sent


def test_no_more_are_sent_than_the_limit() -> None:
    assert not a_gate().enter()


def test_nobody_overtakes_those_who_wait() -> None:
    gate = a_gate()
    wait(gate)
    gate.in_flight -= 1
    assert not gate.enter()


def test_each_answer_sends_the_next_by_priority_and_deadline() -> None:
    gate = a_gate()
    low, late, early = wait(gate, 9), wait(gate, 5, 50.0), wait(gate, 5, 40.0)
    assert [free(gate) for _ in range(3)] == [[early], [late], [low]]
    assert gate.in_flight == 2


def test_when_the_queue_is_full_an_equal_is_shed_and_a_higher_one_takes_the_last_place() -> None:
    gate = a_gate(queue=2)
    first, last = wait(gate, 6), wait(gate, 7)
    assert gate.join(a_place(gate, 7), 0.0) == (Reason.FULL, [])
    assert gate.join(a_place(gate, 1), 0.0) == (None, [last])
    assert gate.join(a_place(gate, 2), 0.0) == (None, [first])
    assert gate.join(a_place(gate, 2), 0.0) == (Reason.FULL, [])


def test_bytes_are_bounded_too_and_nobody_is_displaced_for_nothing() -> None:
    gate = a_gate(queue=10, queue_bytes=100)
    small, big = wait(gate, 8, size=30), wait(gate, 9, size=60)
    assert gate.join(a_place(gate, 9, size=11), 0.0) == (Reason.FULL, [])
    assert gate.join(a_place(gate, 8, size=80), 0.0) == (Reason.FULL, [])  # without `big`, 30 are there still
    assert gate.join(a_place(gate, 5, size=80), 0.0) == (None, [big, small])


def test_one_may_wait_however_large_it_is() -> None:
    gate = a_gate(queue_bytes=10)
    wait(gate, size=10_000)
    assert gate.join(a_place(gate, size=1), 0.0)[0] is Reason.FULL


def test_a_queue_of_nothing_lets_nobody_wait() -> None:
    gate = a_gate(queue=0)
    assert gate.join(a_place(gate, 1), 0.0) == (Reason.FULL, [])


@pytest.mark.parametrize(("deadline", "reason"), [(0.19, Reason.LATE), (0.21, None)])
def test_nobody_is_let_in_who_would_wait_for_more_than_half_of_what_it_can_spare(
    deadline: float, reason: Reason | None
) -> None:
    # 20 a second: 0.05 s until it is sent, 0.1 s until its answer
    assert a_gate().join(a_place(a_gate(), deadline=deadline), 0.0)[0] is reason


def test_the_wait_grows_with_those_ahead_and_not_with_those_behind() -> None:
    gate = a_gate(queue=20)
    for _ in range(10):
        wait(gate, 5)
    assert gate.join(a_place(gate, 5, 0.5), 0.0)[0] is None  # by its deadline it comes first
    assert gate.join(a_place(gate, 6, 0.5), 0.0)[0] is Reason.LATE
    assert gate.join(a_place(gate, 1, 0.5), 0.0)[0] is None


def test_who_cannot_be_answered_in_time_any_more_is_not_sent() -> None:
    gate = a_gate()
    hopeless, patient = wait(gate, deadline=1.0), wait(gate, deadline=9.0)
    gate.in_flight -= 1
    turns = gate.turns(now=0.95)
    assert (turns.late, turns.sent) == ([hopeless], [patient])


def test_who_has_left_takes_no_turn() -> None:
    gate = a_gate()
    gone, next_one = wait(gate), wait(gate)
    gone.has_left = True
    assert free(gate) == [next_one]
    assert gate.in_flight == 2


def test_retry_after_is_all_that_is_here_and_one_more_at_the_measured_rate() -> None:
    gate = a_gate(seconds=1.0)
    wait(gate)
    assert gate.retry_after_seconds() == (2 + 1 + 1) / 2.0
