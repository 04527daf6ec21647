"""Who waits for an item of a batch, and how they are told what became of it."""

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context

from gateway.batching.fair_queue import FairQueue, Item
from gateway.errors import DeadlineExceeded
from gateway.inference import InferResponse


class Waiter:
    """Who waits for an item.

    Attributes:
        outcome: an answer, a failure, or None to be sent alone.
        context: of its task.
        batch: which it was sent in.
        has_left: whether it waits no more.
    """

    __slots__ = ("batch", "context", "has_left", "outcome")

    def __init__(self) -> None:
        self.outcome: asyncio.Future[InferResponse | Exception | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.context: Context = copy_context()
        self.batch: Batch | None = None
        self.has_left = False


class Batch:
    """Items that were sent together; `waiting` of them are still waited for."""

    __slots__ = ("items", "rows", "sent", "task", "waiting", "was_full")

    def __init__(self, items: Sequence[Item[Waiter]], sent: float, *, was_full: bool) -> None:
        self.items = items
        self.sent = sent
        self.rows = sum([item.rows for item in items])  # 0 once it is over
        self.waiting = len(items)
        self.was_full = was_full
        self.task: asyncio.Task[None] | None = None


def end(item: Item[Waiter], outcome: InferResponse | Exception | None) -> None:
    """Tell it, unless nobody waits any more."""
    if not item.waiter.outcome.done():
        item.waiter.outcome.set_result(outcome)


def leave(item: Item[Waiter], queue: FairQueue[Waiter]) -> None:
    """Nobody waits for it any more; a batch for which nobody waits is given up.

    Once: whose deadline has passed may be cancelled before it hears of it.
    """
    waiter = item.waiter
    if waiter.has_left:
        return
    waiter.has_left = True
    queue.remove(item)
    if waiter.batch is not None:
        waiter.batch.waiting -= 1
        if not waiter.batch.waiting and waiter.batch.task is not None:
            waiter.batch.task.cancel()


def expired(item: Item[Waiter]) -> DeadlineExceeded:
    """The failure of an item whose deadline has passed."""
    when = "the deadline passed before it could be sent"
    if item.waiter.batch is not None:
        when = "no answer before the deadline"
    return DeadlineExceeded(f"model '{item.request.model}': {when}")


def copied(error: Exception) -> Exception:
    """The same failure for one more: each caller's frames and stages write into its own."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy
