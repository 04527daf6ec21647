"""When a soak is called flat."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest

from loadtests.soak import MIB, Recording, Window, judge, report, resident_bytes, slope, work_seconds

COUNT = 60
"""Windows of half an hour."""


def windows(count: int = COUNT, *, growth: float = 0.0, late: float = 1.0) -> list[Window]:
    """Of 30 s; memory zigzags by 1 MiB and grows by `growth` MiB an hour.

    p99 is 0.1 s until the warm-up has ended and grows from there to `late` times of that.
    """
    warm = count // 3
    return [
        Window(
            seconds=30.0 * n + 15,
            requests=400,
            failures=0,
            p50_seconds=0.01,
            p99_seconds=0.1 * late ** max(0.0, (n - warm) / max(1, count - 1 - warm)),
            rss_bytes=(200 + growth * n * 30 / 3600 + n % 2) * MIB,
            work_seconds=0.001,
        )
        for n in range(count)
    ]


def noisy(seen: list[Window], deviation: float, seed: int) -> list[Window]:
    """With p99 spread by a log-normal of that deviation."""
    rng = Random(seed)  # noqa: S311 - no secret
    return [replace(w, p99_seconds=w.p99_seconds * math.exp(rng.gauss(0, deviation))) for w in seen]


def test_constant_memory_and_latency_are_flat() -> None:
    verdict = judge(windows())
    assert verdict.is_flat
    assert str(verdict).startswith("flat: memory +0.0 MiB an hour")


def test_a_leak_is_not_flat_and_its_size_is_told() -> None:
    verdict = judge(windows(growth=120.0))
    assert verdict.growth_mib_per_hour.estimate == pytest.approx(120)
    assert str(verdict).startswith("NOT flat: memory +120.0")


def sawtooth(n: int) -> float:
    """MiB above the floor: climbs by 20 within two minutes, and falls."""
    return 5.0 * (n % 4)


@pytest.mark.parametrize(("growth", "is_flat", "is_grown"), [(0.0, True, False), (120.0, False, True)])
def test_a_sawtooth_hides_neither_a_steady_floor_nor_a_leak(
    growth: float, *, is_flat: bool, is_grown: bool
) -> None:
    seen = [
        replace(w, rss_bytes=w.rss_bytes + sawtooth(n) * MIB) for n, w in enumerate(windows(growth=growth))
    ]
    verdict = judge(seen)
    assert (verdict.is_flat, verdict.is_grown) == (is_flat, is_grown)


def test_memory_too_noisy_to_tell_is_neither_called_flat_nor_grown() -> None:
    rng = Random(1)  # noqa: S311 - no secret
    verdict = judge([replace(w, rss_bytes=w.rss_bytes + rng.uniform(0, 200) * MIB) for w in windows()])
    assert not verdict.is_flat
    assert not verdict.is_grown
    assert str(verdict).startswith("NOT shown to be flat: ")


def test_what_grows_in_the_warm_up_does_not_count() -> None:
    seen = windows()
    filling = [
        replace(w, p99_seconds=1.0, rss_bytes=w.rss_bytes - (20 - n) * 20 * MIB)
        for n, w in enumerate(seen[:20])
    ]
    assert judge([*filling, *seen[20:]]).is_flat


def test_memory_that_was_taken_and_given_back_does_not_make_a_leak() -> None:
    seen = windows()
    more = [replace(w, rss_bytes=w.rss_bytes + 50 * MIB) for w in seen[40:45]]
    assert judge([*seen[:40], *more, *seen[45:]]).is_flat


def test_latency_that_creeps_up_is_not_flat() -> None:
    assert judge(windows(late=1.2)).is_flat
    verdict = judge(windows(late=1.3))
    assert verdict.p99_ratio.estimate == pytest.approx(1.3)
    assert verdict.is_grown


@pytest.mark.parametrize(
    "speed",
    [lambda n: 1 + 0.25 * n / COUNT, lambda n: 1.25 if n > 40 else 1.0, lambda n: 1 + 0.25 * math.sin(n / 9)],
    ids=["line", "step", "wave"],
)
def test_a_machine_whose_speed_drifts_by_a_quarter_is_told_from_a_gateway_that_does(
    speed: Callable[[int], float],
) -> None:
    def drifting(seen: list[Window]) -> list[Window]:
        return [
            replace(w, p99_seconds=w.p99_seconds * speed(n), work_seconds=w.work_seconds * speed(n))
            for n, w in enumerate(seen)
        ]

    assert judge(drifting(windows())).is_flat
    assert judge(drifting(windows(late=1.3))).is_grown


def test_noisy_latency_is_flat_only_where_the_noise_leaves_no_room_for_growth() -> None:
    seeds = range(40)
    assert sum(judge(noisy(windows(), 0.1, seed)).is_flat for seed in seeds) >= 30
    assert sum(judge(noisy(windows(), 1.0, seed)).is_flat for seed in seeds) <= 4  # by chance
    assert not any(judge(noisy(windows(late=1.5), 0.1, seed)).is_flat for seed in seeds)
    assert not any(judge(noisy(windows(), 0.1, seed)).is_grown for seed in seeds)


def test_a_failure_anywhere_is_not_flat() -> None:
    first, *others = windows()
    verdict = judge([replace(first, failures=1), *others])
    assert not verdict.is_flat
    assert str(verdict).startswith("NOT flat: ")


@pytest.mark.parametrize("count", [0, 1, 2, 16, 30])
def test_a_run_too_short_to_tell_is_called_neither_flat_nor_grown(count: int) -> None:
    verdict = judge(windows(count))
    assert not verdict.is_flat
    assert not verdict.is_grown


def test_the_fixed_work_takes_some_time() -> None:
    assert work_seconds() > 0


def test_the_slope_is_the_median_of_all_pairs() -> None:
    found = slope([(0, 0), (1, 1), (2, 2), (3, 100)])
    assert found.estimate == pytest.approx((1 + 100 / 3) / 2)
    line = slope([(float(x), 3.0 * x) for x in range(20)])
    assert (line.low, line.estimate, line.high) == pytest.approx((3, 3, 3))


def test_of_ten_points_the_interval_ends_at_the_11th_slope_from_either_side() -> None:
    values = [10.0, 15.0, 14.0, 20.0, 18.0, 25.0, 24.0, 30.0, 29.0, 35.0]
    points = list(enumerate(values))
    slopes = sorted((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))
    found = slope([(float(x), y) for x, y in points])
    assert (found.low, found.high) == (slopes[10], slopes[-11])


def test_four_points_are_too_few_for_an_interval() -> None:
    found = slope([(0, 0), (1, 1), (2, 2), (3, 3)])
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_recording_has_whole_windows_only_and_counts_what_is_in_each() -> None:
    recording = Recording()
    for at, seconds, failed in [(1, 0.1, False), (29, 0.3, True), (31, 0.5, False), (61, 9.0, False)]:
        recording.answered(at, seconds, failed=failed)
    for at, size in [(5, 100.0), (10, 300.0), (15, 200.0), (40, 400.0), (61, 1.0)]:
        recording.measured(at, size, at / 1000)
    first, second = recording.windows(seconds=62)
    assert (first.seconds, first.requests, first.failures, first.rss_bytes) == (15, 2, 1, 100)
    assert first.p50_seconds == pytest.approx(0.2)
    assert first.p99_seconds == pytest.approx(0.298)
    assert first.work_seconds == pytest.approx(0.010)
    assert (second.seconds, second.requests, second.rss_bytes) == (45, 1, 400)


def test_a_window_without_a_sample_or_a_request_is_left_out() -> None:
    recording = Recording()
    recording.answered(1, 0.1, failed=False)
    recording.measured(40, 1.0, 0.001)
    assert recording.windows(seconds=90) == []


def test_memory_is_read_from_the_metrics_and_its_absence_told() -> None:
    page = "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 3.5e+08\nother 1\n"
    assert resident_bytes(page) == 3.5e8
    with pytest.raises(ValueError, match="no process_resident_memory_bytes"):
        resident_bytes("other 1\n")


def test_a_report_has_the_facts_the_verdict_and_every_window() -> None:
    whole = report(windows(), {"conditions": "a quiet machine"})
    assert whole["conditions"] == "a quiet machine"
    assert whole["is_flat"]
    assert len(whole["windows"]) == COUNT
