"""What one gateway knows of one key's limits. Pure; clocks are arguments.

While Redis answers, the account spends what was leased. While it does not, the account goes by its own count:
its share of the rate and of the day's number.
"""

from dataclasses import dataclass

from gateway.keys.key import Key
from gateway.quotas.token_bucket import TokenBucket

DAY_SECONDS = 86_400
LEASE_MAX = 1000
DAY_PARTS = 1000
"""A lease is at most this part of the day's number, so that little of it lies in idle gateways."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not pass.

    Attributes:
        reason: `rate` or `quota`.
        seconds: until one may.
    """

    reason: str
    seconds: float


class Account:
    """One key's.

    Args:
        key: whose limits they are.
        lease_seconds: a lease is what the rate allows in this time.
        share_ratio: what this gateway lets through by itself, of rate, burst and day.
        now: seconds, monotonic.

    Attributes:
        key: see above.
        size: tokens of one lease, at least 1.
        left: leased tokens that are not spent.
        debt: let through without Redis, which is to be told.
    """

    __slots__ = ("_bucket", "_day", "_refused", "_refused_until", "_share_ratio", "_today", "debt", "key",
                 "left", "size")  # fmt: skip

    def __init__(self, key: Key, *, lease_seconds: float, share_ratio: float, now: float) -> None:
        bounds = [LEASE_MAX]
        if key.per_second:
            bounds += [int(key.per_second * lease_seconds), key.burst]
        if key.per_day:
            bounds.append(key.per_day // DAY_PARTS)
        self.key = key
        self.size = max(1, min(bounds))
        self.left = 0
        self.debt = 0
        self._refused = ""
        self._refused_until = 0.0
        self._share_ratio = share_ratio
        self._day = 0
        self._today = 0
        self._bucket: TokenBucket | None = None
        if key.per_second:
            burst = max(1.0, key.burst * share_ratio)
            self._bucket = TokenBucket(per_second=key.per_second * share_ratio, burst=burst, now=now)

    @property
    def is_low(self) -> bool:
        """Whether it is time for the next lease, before this one is spent."""
        return self.left <= self.size // 2

    def take(self, wall: float) -> bool:
        """Spend a leased token, if there is one."""
        if self.left <= 0:
            return False
        self.left -= 1
        self._count(wall)
        return True

    def granted(self, tokens: int, wait_seconds: float, reason: str, now: float) -> None:
        """A lease came, perhaps an empty one: then nothing is asked for until `wait_seconds` are over."""
        self.left += tokens
        if reason and not tokens:
            self._refused, self._refused_until = reason, now + wait_seconds

    def refusal(self, now: float) -> Refusal | None:
        """What Redis has said, while it holds."""
        if now >= self._refused_until:
            return None
        return Refusal(self._refused, self._refused_until - now)

    def take_alone(self, now: float, wall: float) -> Refusal | None:
        """Let one through by its own count; what is refused, and for how long, if it must not pass."""
        self._turn_day(wall)
        if self.key.per_day and self._today >= max(1, int(self.key.per_day * self._share_ratio)):
            return Refusal("quota", DAY_SECONDS - wall % DAY_SECONDS)
        wait_seconds = self._bucket.take(now) if self._bucket else 0.0
        if wait_seconds:
            return Refusal("rate", wait_seconds)
        self._today += 1
        self.debt += 1
        return None

    def _count(self, wall: float) -> None:
        self._turn_day(wall)
        self._today += 1

    def _turn_day(self, wall: float) -> None:
        day = int(wall // DAY_SECONDS)
        if day != self._day:
            self._day, self._today = day, 0
