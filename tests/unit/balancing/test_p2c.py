"""Power of two choices: the less loaded of two candidates."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.p2c import pick
from tests.fakes import FakeInfer

NOW = 1000.0


def pool_of(count: int) -> list[Endpoint]:
    return [Endpoint(str(number), "fake", FakeInfer(), is_ready=True) for number in range(count)]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.integers())
def test_it_never_picks_the_single_most_loaded(in_flight: list[int], seed: int) -> None:
    endpoints = pool_of(len(in_flight))
    for endpoint, number in zip(endpoints, in_flight, strict=True):
        endpoint.latency.observe(0.1, NOW)
        endpoint.in_flight = number
    picked = pick(endpoints, NOW, Random(seed))  # noqa: S311
    assert picked.in_flight < max(in_flight) or in_flight.count(max(in_flight)) > 1


def test_the_only_candidate_is_picked() -> None:
    (endpoint,) = pool_of(1)
    assert pick([endpoint], NOW, Random(7)) is endpoint  # noqa: S311


def test_equally_loaded_endpoints_share_the_requests() -> None:
    rng = Random(7)  # noqa: S311
    endpoints = pool_of(3)
    names = Counter(pick(endpoints, NOW, rng).name for _ in range(3000))
    assert all(800 < names[endpoint.name] < 1200 for endpoint in endpoints)


def test_a_new_endpoint_gets_one_request_and_no_more_until_it_has_answered() -> None:
    proven, new = pool_of(2)
    proven.latency.observe(0.01, NOW)
    proven.in_flight = 5
    rng = Random(7)  # noqa: S311
    assert pick([proven, new], NOW, rng) is new
    new.in_flight += 1
    assert all(pick([proven, new], NOW, rng) is proven for _ in range(20))


def test_an_endpoint_that_was_slow_once_is_asked_again_while_others_answer_fast() -> None:
    fast, once_slow = pool_of(2)
    once_slow.latency.observe(2.5, NOW)
    rng = Random(7)  # noqa: S311
    picked = set()
    for second in range(120):
        now = NOW + second
        fast.latency.observe(0.002, now)
        picked.add(pick([fast, once_slow], now, rng).name)
    assert once_slow.name in picked
