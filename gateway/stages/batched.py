"""Batched: what waits for one pool while it is at work is sent as one request along the batch axis.

Inside of Retry, Hedged and Routed, so that every attempt joins anew, with those that may go to the same
endpoints; outside of the Balancer, to which a batch is one request at one endpoint. Nothing is held back
while an endpoint has room, as in Triton's dynamic batcher without a delay and in mosec: the batch is what
came meanwhile. One for each pool.

- A failure that blames the endpoint is everybody's: each tries again by itself (Retry), elsewhere, and there
  they join once more. One that blames the input, or may, is somebody's: then each is sent again, alone. That
  is spent from the budget of retries. When it does not cover it they are sent all the same, for no
  request may fail for another's fault, but for a second nothing joins: so an engine that refuses much gets at
  most twice the requests.
- A batch runs to the latest deadline of its requests; each leaves at its own, and the last one ends the call.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from gateway.alarms import Alarms
from gateway.balancing.retry_budget import RetryBudget
from gateway.batching.fair_queue import Bounds, Closed, FairQueue, Group, Item
from gateway.batching.joining import Joining, split
from gateway.batching.size_limit import SizeLimit
from gateway.batching.waiting import Batch, Waiter, copied, end, expired, leave
from gateway.chain import Infer
from gateway.errors import AttemptTimedOut, InvalidRequest, ModelFailed
from gateway.inference import InferRequest, InferResponse
from gateway.keys.key import CALLER
from gateway.metrics import Metrics

APART_SECONDS = 1.0
"""How long nothing joins once more was sent again alone than the budget covers."""

IdleInstances = Callable[[frozenset[str]], int]
"""How many batches more the most idle endpoint of a pool, other than these, would work on at once."""

Link = Callable[[], None]


class Batched:
    """Joins the requests of one pool.

    A request that finds room costs no task and no future.

    Args:
        call_next: the pool's balancer.
        model: of the pool.
        idle_instances: asked before anything is sent, unless nothing is in flight.
        joining: which requests join, and how.
        size_limit: how many rows a batch may have.
        max_bytes: of one batch, of its inputs and of its outputs.
        preferred_rows: sizes that the engine runs best, in ascending order.
        max_delay_seconds: how long a request waits for others although there is room.
        budget: of the pool's retries.
        metrics: batches by size and by why they closed, requests sent again alone.
        clock: seconds, monotonic.
        trace: called where a batch starts; what it returns, by whoever else is in it.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        model: str,
        idle_instances: IdleInstances,
        joining: Joining,
        size_limit: SizeLimit,
        max_bytes: int,
        preferred_rows: tuple[int, ...] = (),
        max_delay_seconds: float = 0.0,
        budget: RetryBudget,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        trace: Callable[[], Link] | None = None,
    ) -> None:
        self._call_next = call_next
        self._idle_instances = idle_instances
        self._joining = joining
        self._size_limit = size_limit
        self._max_bytes = max_bytes
        self._preferred_rows = preferred_rows
        self._max_delay_seconds = max_delay_seconds
        self._budget = budget
        self._clock = clock
        self._trace = trace
        self._queue: FairQueue[Waiter] = FairQueue()
        self._in_flight = self._rows_in_flight = 0
        self._apart_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines = Alarms(self._expire)
        self._sizes = metrics.batch_requests.labels(model)
        self._closed = {reason: metrics.batches.labels(model, reason.value) for reason in Closed}
        self._reruns = metrics.batch_reruns.labels(model)

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            DeadlineExceeded: its deadline passed, before or after it was sent.
            InferwayError: as the balancer's; of what it was sent with, if it was not alone.
        """
        now, rows = self._clock(), request.inputs[0].shape[0]
        if now < self._apart_until:
            return await self._alone(request)
        if not self._queue and not self._max_delay_seconds and self._may_send(request.excluded, rows):
            return await self._alone(request)
        caller = CALLER.get()
        client = caller.name if caller else request.sticky
        item = Item(request, client, self._joining.size_bytes(request), now, Waiter())
        group = self._queue.put(self._joining.key(request), item)
        # Whoever makes a batch large enough sends it; the others would find that no better.
        is_enough = (
            (group.rows - rows) * self._in_flight < self._rows_in_flight <= group.rows * self._in_flight
        )
        if is_enough or self._max_delay_seconds:
            self._send_what_may()
        self._deadlines.set(item, request.deadline - now)
        try:
            outcome = await item.waiter.outcome
        except asyncio.CancelledError:
            leave(item, self._queue)
            raise
        finally:
            self._deadlines.stop(item)
        if outcome is None:
            return await self._alone(request)
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                del outcome, item  # they hold this frame, and that the tensors
        return outcome

    async def _alone(self, request: InferRequest) -> InferResponse:
        """Send a request as it is."""
        self._count(1, Closed.IDLE)
        rows, sent = request.inputs[0].shape[0], self._clock()
        is_first = not self._in_flight
        self._in_flight += 1
        self._rows_in_flight += rows
        try:
            response = await self._call_next(request)
            if is_first:
                self._size_limit.answered_alone(self._clock() - sent)
            return response
        finally:
            self._ended(rows)

    def _expire(self, item: Item[Waiter]) -> None:
        leave(item, self._queue)
        end(item, expired(item))

    def _may_send(self, excluded: frozenset[str], rows: int) -> bool:
        """Whether to send so many rows now.

        With nothing in flight always, as nothing would end that they could wait for; where an endpoint is
        idle, too. To wait for its turn at one that is at work, a batch must be as large as those in flight:
        else each answer would be followed by a batch of one, and most batches would be that.
        """
        if not self._in_flight:
            return True
        idle = self._idle_instances(excluded)
        return idle > 0 or (not idle and rows * self._in_flight >= self._rows_in_flight)

    def _send_what_may(self) -> None:
        """Send the next batch, if there is one and room for it."""
        now = self._clock()
        first_due = math.inf
        for group in self._queue.groups():
            if not self._may_send(group.excluded, group.rows):
                continue
            due = self._due(group)
            if now >= due:
                self._send(group, now)
                return
            first_due = min(first_due, due)
        if first_due < math.inf and self._timer is None:
            # Rounded up: uvloop's timers round to the nearest millisecond.
            delay = math.ceil((first_due - now) * 1000) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, self._delay_is_over)

    def _due(self, group: Group[Waiter]) -> float:
        """Until when a group waits for more, while there is room."""
        if not self._max_delay_seconds or group.rows >= self._size_limit.rows:
            return -math.inf
        return min(item.arrived for _, _, item in group.heap) + self._max_delay_seconds

    def _delay_is_over(self) -> None:
        self._timer = None
        self._send_what_may()

    def _send(self, group: Group[Waiter], now: float) -> None:
        """Send the next batch of a group."""
        limit = self._size_limit
        rows = limit.rows if now >= self._apart_until else 1
        bounds = Bounds(rows, limit.max_rows, self._max_bytes, self._preferred_rows)
        taken = self._queue.take(group, bounds, now)
        for item in taken.expired:
            end(item, expired(item))
        if taken.items:
            self._start(taken.items, taken.closed, now)
        if self._queue:
            # Not at once: the endpoint has this batch only when its task has run.
            asyncio.get_running_loop().call_soon(self._send_what_may)

    def _start(self, items: Sequence[Item[Waiter]], closed: Closed, now: float) -> None:
        self._count(len(items), closed)
        is_full = closed in {Closed.ROWS, Closed.LATENCY, Closed.PREFERRED}
        batch = Batch(items, now, was_full=is_full)
        for item in items:
            item.waiter.batch = batch
        first = items[0].waiter.context
        if self._trace is not None:
            link = first.run(self._trace)
            for item in items[1:]:
                item.waiter.context.run(link)
        self._in_flight += 1
        self._rows_in_flight += batch.rows
        batch.task = asyncio.get_running_loop().create_task(self._run(batch), context=first)
        batch.task.add_done_callback(partial(self._landed, batch))

    async def _run(self, batch: Batch) -> None:
        """Send a batch, and give everybody in it what is theirs."""
        items = batch.items
        requests = [item.request for item in items]
        try:
            if len(items) == 1:
                answers = [await self._call_next(requests[0])]
            else:
                response = await self._call_next(self._joining.join(requests))
                answers = split(response, [item.rows for item in items])
        except Exception as error:  # noqa: BLE001 - whatever it is, each of them must hear of it
            if isinstance(error, AttemptTimedOut):
                self._learn(batch)
            self._over(batch)
            self._failed(batch, error)
        else:
            self._learn(batch)
            self._over(batch)  # first, so that the endpoint need not wait for what is done with its answer
            for item, answer in zip(items, answers, strict=True):
                end(item, answer)

    def _failed(self, batch: Batch, error: Exception) -> None:
        is_somebodys = isinstance(error, InvalidRequest | ModelFailed)
        for item in batch.items:
            if item.waiter.outcome.done():
                continue
            if is_somebodys and len(batch.items) > 1:
                self._rerun(item)
            else:
                end(item, copied(error))

    def _rerun(self, item: Item[Waiter]) -> None:
        now = self._clock()
        if not self._budget.withdraw(now):
            self._apart_until = now + APART_SECONDS
        self._reruns.inc()
        end(item, None)

    def _learn(self, batch: Batch) -> None:
        spare_seconds = min([item.request.deadline for item in batch.items]) - batch.sent
        seconds = self._clock() - batch.sent
        self._size_limit.answered(seconds, was_full=batch.was_full, spare_seconds=spare_seconds)

    def _over(self, batch: Batch) -> None:
        rows, batch.rows = batch.rows, 0
        if rows:
            self._ended(rows)

    def _landed(self, batch: Batch, task: asyncio.Task[None]) -> None:
        """The task has ended, perhaps by a cancellation, and then perhaps before it began."""
        self._over(batch)
        batch.items = ()  # each knows its batch: a cycle, which would keep the tensors for a while
        if not task.cancelled():
            task.result()

    def _ended(self, rows: int) -> None:
        self._in_flight -= 1
        self._rows_in_flight -= rows
        if self._queue:
            self._send_what_may()

    def _count(self, requests: int, closed: Closed) -> None:
        self._sizes.observe(requests)
        self._closed[closed].inc()
