"""Warm-up: an endpoint answers the model's example before it takes traffic.

A server that says ready may be cold (a JVM that has compiled nothing, a runtime that sets itself up in its
first inference) or may not be able to answer at all. Its first answers, seconds late, would be clients'
answers, and peak EWMA would then keep clients away from it for long. One that is ready and has failed is
asked the example once, for a server may call a model ready that is dead.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Mapping, Sequence

import structlog

from gateway.balancing.endpoint import Endpoint
from gateway.errors import EndpointFailure, InferwayError
from gateway.inference import InferRequest, PoolKey, Tensor

WARM_UP_REQUESTS = 32
"""So many that a cold TorchServe, whose first answers took a second, answers as fast as the others."""
WARM_REQUESTS = 8
"""So many of the last of them tell how fast it is, and beside others that are served so many may do."""
SETTLED_RATIO = 0.8
"""An endpoint gets no faster any more when the later half of those took this part of the earlier's time."""
PAUSES_RATIO = 0.1
"""What part of the time for all of them may be pauses."""

_log = structlog.get_logger()


class WarmUp:
    """Sends the example of an endpoint's model, again and again.

    Args:
        examples: the input tensors, by the model's name; a model without an example is not warmed up.
        timeout_seconds: for all of the requests together.
        attempt_timeout_seconds: for one, to an endpoint that has failed.
        pause_ratio: how long the pause after an answer is, as a multiple of the time that the answer took.
            Above 0, others are served meanwhile, who wait for each example: it ends once it has settled.
    """

    def __init__(
        self,
        examples: Mapping[str, Sequence[Tensor]],
        *,
        timeout_seconds: float,
        attempt_timeout_seconds: float,
        pause_ratio: float = 0.0,
    ) -> None:
        self._pause_ratio = pause_ratio
        self._examples = examples
        self._timeout_seconds = timeout_seconds
        self._attempt_timeout_seconds = attempt_timeout_seconds

    async def __call__(self, pool: PoolKey, endpoint: Endpoint, /) -> bool:
        """Whether the endpoint answered every time.

        Then its failures are forgotten, and its latency is that of the last answers: so a pool that is new,
        as after a switch of the version, knows from its first request which of its endpoints are fast.
        """
        took: list[float] = []
        error = await self._ask(pool, endpoint, WARM_UP_REQUESTS, self._timeout_seconds, took)
        if error is None:
            endpoint.outlier.succeeded()
            endpoint.latency.forget()  # what answers from now on is not what answered before
            if took:
                endpoint.latency.observe(statistics.median(took[-WARM_REQUESTS:]), time.monotonic())
        return error is None

    async def still_answers(self, pool: PoolKey, endpoint: Endpoint, /) -> bool:
        """Whether an endpoint that is suspect answers the example once, or is but busy."""
        error = await self._ask(pool, endpoint, 1, self._attempt_timeout_seconds, [])
        if error is None:
            endpoint.outlier.answered_when_asked()
        return error is None or (isinstance(error, EndpointFailure) and not error.blames_endpoint)

    async def _ask(
        self, pool: PoolKey, endpoint: Endpoint, times: int, timeout_seconds: float, took: list[float]
    ) -> InferwayError | TimeoutError | None:
        """Send the example so many times, one after another; the first error.

        `took` gets the seconds of each answer.
        """
        inputs = self._examples.get(pool.model)
        if not inputs:
            return None
        request = InferRequest(
            pool.model, tuple(inputs), math.inf, version=pool.version, variant=pool.variant
        )
        rest = PAUSES_RATIO * timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                for left in reversed(range(times)):
                    began = time.monotonic()
                    await endpoint.infer(request)
                    took.append(time.monotonic() - began)
                    if self._pause_ratio and has_settled(took):
                        break
                    pause = min(self._pause_ratio * took[-1], rest)
                    if left and pause:
                        await asyncio.sleep(pause)
                        rest -= pause
        except (InferwayError, TimeoutError) as error:
            _log.info(
                "warm_up_failed", endpoint=endpoint.name, model=pool.model, error=str(error) or "timeout"
            )
            return error
        return None


def has_settled(took: Sequence[float]) -> bool:
    """Whether the last answers took about as long as those before them: a server that is cold gets faster.

    Args:
        took: the seconds of each answer so far.
    """
    if len(took) < WARM_REQUESTS:
        return False
    half = WARM_REQUESTS // 2
    earlier, later = took[-WARM_REQUESTS:-half], took[-half:]
    return statistics.median(later) >= SETTLED_RATIO * statistics.median(earlier)
