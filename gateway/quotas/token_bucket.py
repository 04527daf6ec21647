"""The token bucket: a rate in the long run, and a burst at once. Pure; its clock is an argument.

Each request takes a token; `per_second` come back each second, up to `burst`. See RFC 2697 (one rate, one
bucket). The script in lease.py does the same sum in Redis.
"""


class TokenBucket:
    """One bucket, full at first.

    Args:
        per_second: tokens that come back a second, over 0.
        burst: what it holds, at least 1.
        now: seconds, monotonic.
    """

    __slots__ = ("_at", "_burst", "_per_second", "_tokens")

    def __init__(self, *, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> float:
        """Take a token: 0.0 if there was one, else the seconds until there is."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_second
