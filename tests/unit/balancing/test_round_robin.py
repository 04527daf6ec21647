"""Round robin: each in turn, whoever comes and goes."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.round_robin import pick
from tests.fakes import FakeInfer

RNG = Random(7)  # noqa: S311


def pool_of(names: str) -> list[Endpoint]:
    return [Endpoint(name, "fake", FakeInfer(), is_ready=True) for name in names]


def picks(endpoints: Sequence[Endpoint], times: int, now: float = 1000.0) -> list[str]:
    return [pick(endpoints, now, RNG).name for _ in range(times)]


@given(st.integers(1, 6), st.booleans())
def test_each_round_has_every_endpoint_once_and_all_rounds_one_order(count: int, clock_moves: bool) -> None:
    endpoints = pool_of("abcdef"[:count])
    rounds = [picks(endpoints, count, now=1000.0 + number * clock_moves) for number in range(4)]
    assert sorted(rounds[0]) == sorted(endpoint.name for endpoint in endpoints)
    assert all(later == rounds[0] for later in rounds)


def test_a_new_endpoint_is_picked_once_and_then_waits_its_turn() -> None:
    endpoints = pool_of("ab")
    picks(endpoints, 100)
    endpoints += pool_of("c")
    first, *others = picks(endpoints, 9)
    assert first == "c"
    assert Counter(others) == {"a": 3, "b": 3, "c": 2}


def test_one_that_was_away_makes_up_for_nothing() -> None:
    endpoints = pool_of("abc")
    picks(endpoints, 3)
    picks(endpoints[:2], 100)
    assert Counter(picks(endpoints, 9)) == {"a": 3, "b": 3, "c": 3}


def test_when_one_goes_the_others_keep_their_turns() -> None:
    endpoints = pool_of("abc")
    order = picks(endpoints, 3)
    left = [endpoint for endpoint in endpoints if endpoint.name != order[1]]
    assert picks(left, 4) == [order[0], order[2]] * 2


def test_gateways_that_start_together_do_not_all_ask_the_same_endpoint_first() -> None:
    assert len({picks(pool_of("abc"), 1)[0] for _ in range(50)}) == 3
