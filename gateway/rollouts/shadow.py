"""Shadow traffic: what clients were answered is asked elsewhere too, and the answers are compared.

The client never waits for it: a shadow begins once the answer is there, in a task of its own; so many are
under way, so many wait, any more are dropped. It is not retried, and its pool is its own, so that nothing
which fails there counts against the endpoints that answer clients.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from random import Random

import structlog

from gateway.chain import Infer
from gateway.contract import Contract
from gateway.errors import EndpointFailure, InferwayError
from gateway.inference import InferRequest, InferResponse
from gateway.metrics import Metrics
from gateway.rollouts.parity import Parity, compare
from gateway.rollouts.plans import ShadowPlan

EQUAL, DIFFERENT = "equal", "different"
INFINITE_DIFFERENCE = 1e9
"""Stands for an infinite difference in the histograms: their sums would stay infinite for ever."""
HELD_BYTES = 64 * 1024 * 1024
"""Tensors that the shadows of one target may hold: one request of the largest size, or many small ones."""
INLINE_BYTES = 256 * 1024
"""Answers up to this size are compared at once, in well under a millisecond; larger ones in a thread, since
the event loop would answer nobody meanwhile."""

_log = structlog.get_logger()


class Shadow:
    """Asks one target what the requests of one pool were.

    Args:
        plan: what is configured.
        infer: the target: one attempt.
        contract: of the model; its outputs with labels are compared by label too.
        metrics: requests by outcome, dropped ones, differences, agreement.
        clock: seconds, monotonic.
        rng: draws the share of the requests.
    """

    def __init__(
        self,
        plan: ShadowPlan,
        infer: Infer,
        *,
        contract: Contract,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        rng: Random,
    ) -> None:
        self.plan = plan
        self._infer, self._clock, self._rng = infer, clock, rng
        self._labelled = frozenset(spec.name for spec in contract.outputs if spec.labels)
        self._turn = asyncio.Semaphore(plan.settings.max_in_flight)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held_bytes = 0
        labels = (plan.settings.model, plan.target)
        self._requests = metrics.shadow_requests
        for outcome in (EQUAL, DIFFERENT):
            self._requests.labels(*labels, outcome)
        self._dropped = metrics.shadow_dropped.labels(*labels)
        self._largest = metrics.shadow_largest_difference.labels(*labels)
        self._mean = metrics.shadow_mean_difference.labels(*labels)
        self._agreed = metrics.shadow_label_agreement.labels(*labels, "same")
        self._disagreed = metrics.shadow_label_agreement.labels(*labels, "other")

    def offer(self, request: InferRequest, response: InferResponse) -> None:
        """Send a share of what is offered; returns at once.

        Args:
            request: that a client sent, as Routed has it.
            response: what an endpoint answered.
        """
        settings = self.plan.settings
        if self._rng.random() >= settings.ratio:
            return
        size = sum(len(tensor.data) for tensor in (*request.inputs, *response.outputs))
        is_full = len(self._tasks) >= settings.max_in_flight + settings.max_queued
        if is_full or (self._held_bytes and self._held_bytes + size > HELD_BYTES):
            self._dropped.inc()
            return
        self._held_bytes += size
        # A context of its own: it has no part in the client's trace, whose span is over before it is.
        task = asyncio.get_running_loop().create_task(self._ask(request, response), context=Context())
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, size))

    def _ended(self, task: asyncio.Task[None], size: int) -> None:
        self._tasks.discard(task)
        self._held_bytes -= size

    async def _ask(self, request: InferRequest, response: InferResponse) -> None:
        to = self.plan.to
        outcome = "internal"
        try:
            async with self._turn:
                copy = InferRequest(
                    to.model,
                    request.inputs,
                    self._clock() + self.plan.settings.timeout_seconds,
                    version=to.version,
                    variant=to.variant,
                    outputs=request.outputs,
                    parameters=request.parameters,
                )
                parity = await self._compared(response, await self._infer(copy))
            outcome = EQUAL if parity.largest <= self.plan.settings.tolerance else DIFFERENT
            self._observe(parity)
        except EndpointFailure as error:
            outcome = type(error).__name__
        except InferwayError as error:
            outcome = error.code.value
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception:  # noqa: BLE001 - it is logged and counted, and nobody waits for it
            _log.exception("shadow_failed", model=to.model, target=self.plan.target)
        finally:
            self._requests.labels(to.model, self.plan.target, outcome).inc()

    async def _compared(self, response: InferResponse, other: InferResponse) -> Parity:
        answers = (response.outputs, other.outputs)
        if sum(len(tensor.data) for tensor in response.outputs) <= INLINE_BYTES:
            return compare(*answers, self._labelled)
        return await asyncio.to_thread(compare, *answers, self._labelled)

    def _observe(self, parity: Parity) -> None:
        self._largest.observe(min(parity.largest, INFINITE_DIFFERENCE))
        self._mean.observe(min(parity.mean, INFINITE_DIFFERENCE))
        self._agreed.inc(parity.agreeing)
        self._disagreed.inc(parity.labelled - parity.agreeing)

    async def aclose(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
