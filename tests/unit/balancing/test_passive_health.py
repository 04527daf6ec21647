"""Passive health of a pool: who is ejected, and how many may be at a time."""

from collections.abc import Callable
from random import Random

import pytest

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.passive_health import PassiveHealth
from tests.fakes import FakeInfer

RULES = PassiveHealth()
NOW = 1000.0


def pool_of(count: int) -> list[Endpoint]:
    return [Endpoint(str(number), "fake", FakeInfer(), is_ready=True) for number in range(count)]


def fail_everywhere(pool: list[Endpoint], rules: PassiveHealth = RULES) -> int:
    """Every endpoint fails ten times; how many are ejected."""
    for endpoint in pool:
        for _ in range(10):
            rules.failed(endpoint, pool, sent=NOW, now=NOW)
    return sum(endpoint.outlier.is_ejected(NOW) for endpoint in pool)


@pytest.mark.parametrize(
    ("count", "ratio", "ejected"),
    [
        (1, 0.7, 1),
        (2, 0.7, 2),
        (3, 0.7, 3),
        (4, 0.7, 3),
        (10, 0.7, 7),
        (30, 0.1, 3),
        (4, 0.5, 2),
        (5, 0.5, 3),
        (1, 0.0, 1),
        (8, 0.0, 1),
        (3, 1.0, 3),
    ],
)
def test_at_most_a_share_rounded_up_is_ejected_and_always_one_may_be(
    count: int, ratio: float, ejected: int
) -> None:
    assert fail_everywhere(pool_of(count), PassiveHealth(max_ejected_ratio=ratio)) == ejected


@pytest.mark.parametrize(
    "take_out", [lambda e: setattr(e, "is_ready", False), lambda e: setattr(e, "is_draining", True)]
)
def test_the_share_is_of_those_that_are_ready_and_not_draining(take_out: Callable[[Endpoint], None]) -> None:
    pool = pool_of(8)
    for endpoint in pool[:4]:
        take_out(endpoint)
    fail_everywhere(pool[4:])
    assert sum(endpoint.outlier.is_ejected(NOW) for endpoint in pool) == 3


def test_once_another_is_back_one_that_was_spared_is_ejected_by_its_next_failure() -> None:
    pool = pool_of(4)
    fail_everywhere(pool)
    assert not pool[3].outlier.is_ejected(NOW)
    RULES.answered(pool[0], sent=NOW, now=NOW)
    assert RULES.failed(pool[3], pool, sent=NOW, now=NOW)


def drive(pool: list[Endpoint], fails: Callable[[Endpoint, int], bool], requests: int) -> dict[str, int]:
    """Each endpoint that is not ejected gets a request every 10 ms; how often each was ejected."""
    ejections = dict.fromkeys([endpoint.name for endpoint in pool], 0)
    for number in range(requests):
        now = NOW + number * 0.01
        for endpoint in pool:
            if endpoint.outlier.is_ejected(now):
                continue
            if fails(endpoint, number):
                ejections[endpoint.name] += RULES.failed(endpoint, pool, sent=now, now=now)
            else:
                RULES.answered(endpoint, sent=now, now=now)
    return ejections


@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_endpoint_whose_answers_and_failures_alternate_is_ejected_again_and_again(count: int) -> None:
    ejections = drive(
        pool_of(count), lambda endpoint, number: endpoint.name == "0" and bool(number % 2), 2000
    )
    assert ejections.pop("0") >= 3
    assert set(ejections.values()) == {0}


def test_its_ejections_grow_longer_though_it_answers_between() -> None:
    pool = pool_of(2)
    lengths = []
    for number in range(10_000):
        now = NOW + number * 0.01
        RULES.answered(pool[1], sent=now, now=now)
        if pool[0].outlier.is_ejected(now):
            continue
        if not number % 2:
            RULES.answered(pool[0], sent=now, now=now)
        elif RULES.failed(pool[0], pool, sent=now, now=now):
            lengths.append(round(pool[0].outlier.ejected_until - now, 6))
    assert lengths[:5] == [1, 2, 4, 8, 16]


def test_endpoints_that_fail_alike_eject_nobody() -> None:
    rng = Random(7)  # noqa: S311
    ejections = drive(pool_of(3), lambda _endpoint, _number: rng.random() < 0.05, 5000)
    assert sum(ejections.values()) <= 2


def test_what_fails_in_all_of_a_pool_at_once_makes_an_outlier_of_none() -> None:
    ejections = drive(pool_of(3), lambda _endpoint, number: bool(number % 2), 2000)
    assert set(ejections.values()) == {0}


def test_what_was_sent_before_an_ejection_is_not_counted_after_it() -> None:
    pool = pool_of(2)
    fail_everywhere(pool[:1])
    for _ in range(50):
        RULES.failed(pool[0], pool, sent=NOW - 1.0, now=NOW + 2.0)
        RULES.answered(pool[0], sent=NOW - 1.0, now=NOW + 2.0)
    assert pool[0].answers.at(NOW + 2.0).total == 0
    assert pool[0].outlier.on_probation
