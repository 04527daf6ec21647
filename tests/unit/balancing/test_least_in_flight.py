"""Least in flight: always one with the fewest, and equals share."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.least_in_flight import pick
from tests.fakes import FakeInfer

NOW = 1000.0


def pool_of(*in_flight: int) -> list[Endpoint]:
    return [
        Endpoint(str(place), "fake", FakeInfer(), is_ready=True, in_flight=number)
        for place, number in enumerate(in_flight)
    ]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers())
def test_no_other_has_fewer(in_flight: list[int], seed: int) -> None:
    assert pick(pool_of(*in_flight), NOW, Random(seed)).in_flight == min(in_flight)  # noqa: S311


def test_latency_does_not_matter() -> None:
    slow, fast = pool_of(0, 1)
    slow.latency.observe(9.0, NOW)
    fast.latency.observe(0.001, NOW)
    assert pick([slow, fast], NOW, Random(7)) is slow  # noqa: S311


def test_equals_share_the_requests() -> None:
    rng = Random(7)  # noqa: S311
    endpoints = pool_of(1, 1, 1, 2)
    names = Counter(pick(endpoints, NOW, rng).name for _ in range(3000))
    assert all(800 < names[name] < 1200 for name in "012")
