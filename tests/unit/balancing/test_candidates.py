"""Candidates: who may take a request, and that ejections are ignored when too few are well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.candidates import candidates
from tests.unit.balancing.endpoint_states import NOW, STATES, a_pool

NOBODY: frozenset[str] = frozenset()


def chosen(states: list[str], panic_ratio: float = 0.0) -> list[str]:
    """The states of those that may take a request that has failed at every endpoint `failed at`."""
    endpoints, excluded = a_pool(states)
    found = candidates(endpoints, excluded, NOW, panic_ratio=panic_ratio)
    return [endpoint.name.partition(" ")[2] for endpoint in found]


@given(st.lists(st.sampled_from(STATES), max_size=6), st.floats(0, 1))
def test_never_one_that_is_not_ready_or_draining_or_where_the_request_failed(
    states: list[str], panic_ratio: float
) -> None:
    assert not {"failed at", "not ready", "draining"} & set(chosen(states, panic_ratio))


@given(st.lists(st.sampled_from(STATES), max_size=6))
def test_while_one_is_well_it_and_idle_ones_on_probation_take_the_request(states: list[str]) -> None:
    expected = [state for state in [*states, "well"] if state in {"well", "on probation"}]
    assert chosen([*states, "well"]) == expected


@given(st.lists(st.sampled_from(STATES), max_size=6))
def test_nobody_only_when_none_is_ready_that_the_request_has_not_failed_at(states: list[str]) -> None:
    asked = {"well", "ejected", "on probation", "on trial"}
    assert bool(chosen(states)) is any(state in asked for state in states)


@pytest.mark.parametrize("state", ["ejected", "on probation", "on trial"])
def test_the_only_endpoint_of_a_pool_is_asked_whatever_it_did(state: str) -> None:
    assert chosen([state]) == [state]
    assert chosen([state, "not ready", "draining"]) == [state]


def test_a_request_that_failed_at_the_last_one_that_is_well_may_try_an_ejected_one() -> None:
    assert chosen(["failed at", "ejected", "on trial"]) == ["ejected", "on trial"]


@pytest.mark.parametrize(
    ("panic_ratio", "expected"),
    [
        (0.0, ["well"]),
        (0.32, ["well"]),
        (1 / 3, ["well", "ejected", "on trial"]),
        (1.0, ["well", "ejected", "on trial"]),
    ],
)
def test_at_or_below_the_share_that_is_well_ejections_and_probation_are_ignored(
    panic_ratio: float, expected: list[str]
) -> None:
    assert chosen(["well", "ejected", "not ready", "draining", "on trial"], panic_ratio) == expected


def test_an_empty_pool_has_nobody() -> None:
    assert candidates([], NOBODY, NOW, panic_ratio=1.0) == []
