"""The token bucket: never more than burst + rate x time, and never less for who waits."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.quotas.token_bucket import TokenBucket


def test_a_burst_passes_at_once_and_the_next_waits_for_its_token() -> None:
    bucket = TokenBucket(per_second=2, burst=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(0.25) == 0.25
    assert bucket.take(0.5) == 0.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(per_second=1, burst=1, now=10.0)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(5.0) == 1.0


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 100),
    steps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_no_more_passes_than_burst_and_rate_allow(rate: float, burst: int, steps: list[float]) -> None:
    bucket = TokenBucket(per_second=rate, burst=burst, now=0.0)
    now, passed = 0.0, 0
    for step in steps:
        now += step
        passed += bucket.take(now) == 0.0
    assert passed <= burst + rate * now + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 5), takes=st.integers(1, 50))
def test_who_waits_as_long_as_told_gets_a_token(rate: float, burst: int, takes: int) -> None:
    bucket = TokenBucket(per_second=rate, burst=burst, now=0.0)
    now = 0.0
    for _ in range(takes):
        wait_seconds = bucket.take(now)
        if wait_seconds:
            now += wait_seconds + 1e-6
            assert bucket.take(now) == 0.0
