"""Calls that run to their end at the server although nobody waits for them any more.

Some servers do not survive that a call is cancelled, or that its gRPC deadline passes: TorchServe 0.12 may
lose its worker, Triton 2.51 the whole process (a race between the cancellation and the reply).
"""

import asyncio
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

CALL_SECONDS = 120.0
"""The end of a call that nobody may cancel: past the limit after which the servers answer by themselves."""
CLOSE_SECONDS = 2.0
"""How long closing waits for calls whose callers have left."""


class UnbrokenCalls:
    """Those of one backend."""

    def __init__(self) -> None:
        self._calls: set[grpc.aio.UnaryUnaryCall[Any, Any]] = set()

    async def __call__(self, call: grpc.aio.UnaryUnaryCall[Any, T]) -> T:
        """What a call comes to. A caller that is cancelled only stops listening.

        Raises:
            AioRpcError: it failed.
        """
        self._calls.add(call)  # a call that nobody holds is cancelled
        call.add_done_callback(self._calls.discard)
        # Who leaves `await call` cancels it, who leaves the wait for its status does not; a task and a shield
        # around it would do the same for some 9 us and two more turns of the event loop.
        await call.code()
        return await call

    async def aclose(self) -> None:
        """Wait a moment for the calls whose callers have left."""
        if self._calls:
            await asyncio.wait(
                [asyncio.ensure_future(call.code()) for call in self._calls], timeout=CLOSE_SECONDS
            )
