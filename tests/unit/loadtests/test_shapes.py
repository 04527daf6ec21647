"""How many users, and when they ask."""

from random import Random

import pytest

from loadtests import curves
from loadtests.pacing import Pace


def test_a_ramp_climbs_in_a_straight_line_and_stays() -> None:
    seen = [curves.users(curves.ramp, seconds, 100, 80) for seconds in (0, 20, 40, 80, 99)]
    assert seen == [1, 20, 40, 80, 80]


def test_a_spike_comes_suddenly_and_goes() -> None:
    seen = [curves.users(curves.spike, seconds, 100, 50) for seconds in (0, 39, 40, 59, 60, 99)]
    assert seen == [10, 10, 50, 50, 10, 10]


def test_a_soak_has_all_users_from_the_beginning() -> None:
    assert [curves.users(curves.soak, seconds, 100, 50) for seconds in (0, 50, 99.9)] == [50, 50, 50]


@pytest.mark.parametrize("curve", [curves.ramp, curves.spike, curves.soak])
def test_a_run_ends_at_its_time(curve: curves.Curve) -> None:
    assert curves.users(curve, 100, 100, 50) is None


RNG = Random(1)  # noqa: S311


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def test_a_pace_is_kept_on_average_when_answers_are_fast() -> None:
    clock = Clock()
    pace = Pace(4.0, RNG, clock)
    for _ in range(4_000):
        clock.now += pace.wait_seconds() + 0.01
    assert 4_000 / (clock.now - 10.0) == pytest.approx(4.0, rel=0.05)


def test_what_slow_answers_missed_is_not_made_up_for() -> None:
    clock = Clock()
    pace = Pace(1.0, RNG, clock)
    clock.now += 1_000.0
    assert pace.wait_seconds() == 0.0
    assert sum(pace.wait_seconds() for _ in range(10)) > 0.0


def test_a_pace_of_0_never_waits() -> None:
    assert Pace(0.0, RNG, Clock()).wait_seconds() == 0.0
