"""Retry: what failed at one endpoint is tried at another, within a budget.

Outside of Routed and Balancer: a second attempt picks again, never the endpoint that failed. Inside of the
caches and of SingleFlight: one flight retries once for all who wait.
"""

import time
from collections.abc import Callable

from gateway.balancing.retry_budget import RetryBudget
from gateway.chain import Infer
from gateway.errors import DeadlineExceeded, EndpointFailure, Unavailable
from gateway.inference import InferRequest, InferResponse, PoolKey
from gateway.metrics import Metrics

SENT, REFUSED = "sent", "refused"


class Retry:
    """Tries again after an `EndpointFailure`.

    Args:
        call_next: what it wraps.
        budget_of: what a pool's retries are paid from: each has its own, so that a pool that dies
            spends nothing of another's. An attempt that was never sent is free.
        max_attempts: attempts a request, the first included.
        metrics: counts retries.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        budget_of: Callable[[PoolKey], RetryBudget],
        max_attempts: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_next = call_next
        self._budget_of = budget_of
        self._budgets: dict[PoolKey, RetryBudget] = {}
        self._max_attempts = max_attempts
        self._retries = metrics.retries
        self._clock = clock

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            Unavailable: every attempt failed, or the budget was spent; its text has the last failure's.
            DeadlineExceeded: an attempt failed and the deadline has passed.
        """
        self._budget(request.pool).deposit(self._clock())
        attempts = 1
        failure = ""  # the text: the exception itself would hold this frame, and that the request
        while True:
            try:
                return await self._call_next(request)
            except EndpointFailure as error:
                failure = str(error)
                if self._clock() >= request.deadline:
                    text = f"model '{request.model}': the deadline passed after an attempt failed: {error}"
                    raise DeadlineExceeded(text) from error
                is_last = attempts >= self._max_attempts or not error.retryable
                if is_last or not self._may_retry(request, error):
                    raise _unavailable(request, attempts, failure) from error
                request = request.without(*filter(None, (error.endpoint, error.hedged_at)))
                attempts += 1
            except Unavailable as error:
                if attempts == 1:
                    raise
                back = error.retry_after_seconds
                raise _unavailable(request, attempts - 1, failure, retry_after_seconds=back) from error

    def _budget(self, pool: PoolKey) -> RetryBudget:
        budget = self._budgets.get(pool)
        if budget is None:
            budget = self._budgets[pool] = self._budget_of(pool)
            for result in (SENT, REFUSED):
                self._retries.labels(pool.model, result)  # from 0 on, so that the first is an increase
        return budget

    def _may_retry(self, request: InferRequest, error: EndpointFailure) -> bool:
        allowed = not error.was_sent or self._budgets[request.pool].withdraw(self._clock())
        self._retries.labels(request.model, SENT if allowed else REFUSED).inc()
        return allowed


def _unavailable(
    request: InferRequest, attempts: int, failure: str, *, retry_after_seconds: float = 1.0
) -> Unavailable:
    made = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return Unavailable(
        f"model '{request.model}': {made} failed, the last: {failure}",
        retry_after_seconds=retry_after_seconds,
    )
