"""When a soak is called flat."""

import math
from itertools import combinations

import pytest

from loadtests.soak import MIB, Recording, Window, judge, report, resident_bytes, slope


def windows(count: int = 20, *, growth: float = 0.0, p99: float = 0.1, late: float = 0.1) -> list[Window]:
    """Of 30 s; memory zigzags by 1 MiB and grows by `growth` MiB an hour; p99 becomes `late` at the end."""
    return [
        Window(
            seconds=30.0 * n + 15,
            requests=400,
            failures=0,
            p50_seconds=0.01,
            p99_seconds=late if n >= count - count // 3 else p99,
            rss_bytes=(200 + growth * n * 30 / 3600 + n % 2) * MIB,
        )
        for n in range(count)
    ]


def test_constant_memory_and_latency_are_flat() -> None:
    verdict = judge(windows())
    assert verdict.is_flat
    assert str(verdict).startswith("flat: memory +0.0 MiB an hour")


def test_a_leak_is_not_flat_and_its_size_is_told() -> None:
    verdict = judge(windows(growth=120.0))
    assert not verdict.is_flat
    assert verdict.growth_mib_per_hour.estimate == pytest.approx(120)
    assert str(verdict).startswith("NOT shown to be flat: memory +120.0")


def test_memory_that_climbs_and_falls_again_over_a_steady_floor_is_flat() -> None:
    climbing = [
        Window(w.seconds, 400, 0, 0.01, 0.1, (200 + (0, 9)[n % 2]) * MIB) for n, w in enumerate(windows())
    ]
    assert judge(climbing).is_flat


def test_what_grows_in_the_warm_up_does_not_count() -> None:
    seen = windows()
    filling = [
        Window(w.seconds, w.requests, 0, w.p50_seconds, 1.0, w.rss_bytes - (6 - n) * 20 * MIB)
        for n, w in enumerate(seen[:6])
    ]
    assert judge([*filling, *seen[6:]]).is_flat


def test_one_step_of_memory_does_not_make_a_leak() -> None:
    seen = windows()
    last = Window(seen[-1].seconds, 400, 0, 0.01, 0.1, seen[-1].rss_bytes + 50 * MIB)
    assert judge([*seen[:-1], last]).is_flat


def test_latency_that_creeps_up_is_not_flat() -> None:
    assert judge(windows(late=0.119)).is_flat
    assert not judge(windows(late=0.125)).is_flat


def test_a_failure_anywhere_is_not_flat() -> None:
    first, *others = windows()
    failed = Window(first.seconds, 400, 1, first.p50_seconds, first.p99_seconds, first.rss_bytes)
    assert not judge([failed, *others]).is_flat


@pytest.mark.parametrize("count", [0, 1, 16])
def test_a_run_too_short_to_tell_is_not_called_flat(count: int) -> None:
    assert not judge(windows(count)).is_flat


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
        recording.measured(at, size)
    first, second = recording.windows(seconds=62)
    assert (first.seconds, first.requests, first.failures, first.rss_bytes) == (15, 2, 1, 100)
    assert first.p50_seconds == pytest.approx(0.2)
    assert first.p99_seconds == pytest.approx(0.298)
    assert (second.seconds, second.requests, second.rss_bytes) == (45, 1, 400)


def test_a_window_without_a_sample_or_a_request_is_left_out() -> None:
    recording = Recording()
    recording.answered(1, 0.1, failed=False)
    recording.measured(40, 1.0)
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
    assert len(whole["windows"]) == 20
