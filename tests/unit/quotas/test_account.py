"""What a gateway knows of a key's limits: leases, what Redis refused, and its own count."""

import pytest

from gateway.keys.key import Key
from gateway.quotas.account import DAY_SECONDS, Account, Refusal

NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


def account(*, share_ratio: float = 1.0, **limits: float) -> Account:
    key = Key("0123456789ab", "team", bytes(32), **limits)  # type: ignore[arg-type] # numbers of either kind
    return Account(key, lease_seconds=0.1, share_ratio=share_ratio, now=0.0)


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"per_second": 100.0, "burst": 100}, 10),
        ({"per_second": 100.0, "burst": 4}, 4),
        ({"per_second": 1.0, "burst": 1}, 1),
        ({"per_second": 1e6, "burst": 10**6}, 1000),
        ({"per_day": 50_000}, 50),
        ({"per_day": 10}, 1),
        ({"per_second": 1000.0, "burst": 1000, "per_day": 5000}, 5),
    ],
)
def test_a_lease_is_a_small_part_of_every_limit(limits: dict[str, float], size: int) -> None:
    assert account(**limits).size == size


def test_leased_tokens_are_spent_and_the_next_lease_is_asked_for_before_they_are() -> None:
    leased = account(per_second=40.0, burst=40)
    assert not leased.take(NOON)
    leased.granted(4, 0.0, "", now=0.0)
    assert [leased.is_low, leased.take(NOON), leased.is_low, leased.take(NOON), leased.is_low] == [
        False, True, False, True, True,
    ]  # fmt: skip


def test_what_redis_refused_is_refused_until_then_and_no_longer() -> None:
    refused = account(per_second=1.0)
    refused.granted(0, 2.0, "rate", now=10.0)
    assert refused.refusal(10.5) == Refusal("rate", 1.5)
    assert refused.refusal(12.0) is None


def test_alone_it_keeps_to_its_share_of_the_rate_and_remembers_what_passed() -> None:
    alone = account(per_second=4.0, burst=4, share_ratio=0.5)
    passed = [alone.take_alone(0.0, NOON) for _ in range(3)]
    assert passed == [None, None, Refusal("rate", 0.5)]
    assert alone.debt == 2


def test_alone_it_keeps_to_its_share_of_the_day_counting_what_was_leased() -> None:
    alone = account(per_day=4, share_ratio=0.5)
    alone.granted(1, 0.0, "", now=0.0)
    assert alone.take(NOON)
    assert alone.take_alone(0.0, NOON) is None
    assert alone.take_alone(0.0, NOON) == Refusal("quota", DAY_SECONDS / 2)
    assert alone.take_alone(0.0, NOON + DAY_SECONDS) is None
