"""Drawing without a walk: it finds what picking among the walked candidates would find, as often."""

from collections import Counter
from random import Random
from typing import SupportsIndex

from hypothesis import given
from hypothesis import strategies as st

from gateway.balancing.candidates import candidates
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.p2c import draw, pick
from tests.unit.balancing.endpoint_states import NOW, STATES, a_pool

NOBODY: frozenset[str] = frozenset()


@given(st.lists(st.sampled_from(STATES), min_size=1, max_size=8), st.integers())
def test_what_is_drawn_is_among_the_candidates(states: list[str], seed: int) -> None:
    endpoints, excluded = a_pool(states)
    drawn = draw(endpoints, excluded, NOW, Random(seed))  # noqa: S311
    assert drawn is None or drawn in candidates(endpoints, excluded, NOW, panic_ratio=0.0)


@given(st.lists(st.sampled_from([s for s in STATES if s != "well"]), min_size=1, max_size=8), st.integers())
def test_nothing_is_drawn_where_none_is_well(states: list[str], seed: int) -> None:
    endpoints, excluded = a_pool([state for state in states if state != "failed at"] or ["ejected"])
    assert draw(endpoints, excluded, NOW, Random(seed)) is None  # noqa: S311


def test_each_is_drawn_as_often_as_it_is_picked_among_all_candidates() -> None:
    endpoints, excluded = a_pool([*STATES, "well", "well", "ejected", "on probation"])
    for place, endpoint in enumerate(endpoints):
        endpoint.latency.observe(0.001 * (1 + place % 3), NOW)
    rng, walked = Random(7), candidates(endpoints, excluded, NOW, panic_ratio=0.0)  # noqa: S311
    found = [draw(endpoints, excluded, NOW, rng) for _ in range(12_000)]
    drawn = Counter(endpoint.name for endpoint in found if endpoint)
    picked = Counter(pick(walked, NOW, rng).name for _ in range(drawn.total()))
    assert drawn.total() > 9_000
    assert all(abs(drawn[e.name] - picked[e.name]) < 0.02 * drawn.total() for e in endpoints)


def test_however_large_a_pool_few_of_its_endpoints_are_looked_at() -> None:
    class Looked(list[Endpoint]):
        looks = 0

        def __getitem__(self, place: SupportsIndex | slice) -> Endpoint:  # type: ignore[override]
            Looked.looks += 1
            return super().__getitem__(place)  # type: ignore[return-value]

    pool = Looked(a_pool(["well"] * 1000)[0])
    rng = Random(7)  # noqa: S311
    assert all(draw(pool, NOBODY, NOW, rng) for _ in range(100))
    assert Looked.looks < 210
