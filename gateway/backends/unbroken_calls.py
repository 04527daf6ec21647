"""Calls that run to their end at the server although nobody waits for them any more.

Some servers do not survive that a call is cancelled, or that its gRPC deadline passes: TorchServe 0.12 may
lose its worker, Triton 2.51 the whole process (a race between the cancellation and the reply).
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

CALL_SECONDS = 120.0
"""The end of a call that nobody may cancel: past the limit after which the servers answer by themselves."""
CLOSE_SECONDS = 2.0
"""How long closing waits for calls whose callers have left."""


class UnbrokenCalls:
    """Those of one backend."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, call: Awaitable[T]) -> T:
        """What a call comes to. A caller that is cancelled only stops listening."""
        task = asyncio.ensure_future(call)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Wait a moment for the calls whose callers have left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody else may look at the failure of an abandoned call
