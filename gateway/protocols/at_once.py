"""The first steps of a request without a task: what never waits ends where its bytes came in.

asyncio needs a task for what waits, and a task costs as much as all that the gateway does for a hit. So a
connection runs a request up to where it first waits, and makes a task of what is left (as Python 3.12 does
with `asyncio.eager_task_factory`). What needs to know its task (`asyncio.timeout`) stands behind `in_task`.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from types import coroutine
from typing import Any


def begin(work: Coroutine[Any, None, None]) -> asyncio.Task[None] | None:
    """Run a coroutine up to where it first waits; the task of what is left, None when nothing is."""
    context = copy_context()
    try:
        waits_for = context.run(work.send, None)
    except StopIteration:
        return None
    # Who waits for no more than a turn, as `in_task` does, goes on with a task's first step.
    rest = work
    if waits_for is not None:
        rest = _rest(work, waits_for)
        rest.send(None)
    return asyncio.get_running_loop().create_task(rest, context=context)


@coroutine
def in_task() -> Generator[None, None, None]:
    """Go on in a task: the one that `begin` makes here, or the one that this is in."""
    if asyncio.current_task() is None:
        yield


@coroutine
def _rest(work: Coroutine[Any, None, None], waits_for: Any) -> Generator[Any, None, None]:
    """For a coroutine that has begun: what it waits for goes to the task, and what comes of it comes back.

    It is begun, too, so that a task that is cancelled before its first step cancels the coroutine.
    """
    try:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - as below
            waits_for = work.throw(error)
        while True:
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - the coroutine's to handle, a cancellation too
                waits_for = None  # it holds the error, whose traceback holds this frame: a cycle
                waits_for = work.throw(error)
            else:
                waits_for = work.send(None)
    except StopIteration:
        return
