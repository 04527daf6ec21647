"""Calls that run to their end at the server although nobody waits for them any more.

Some servers do not survive that a call is cancelled, or that its gRPC deadline passes: TorchServe 0.12 may
lose its worker, Triton 2.51 the whole process (a race between the cancellation and the reply).
"""

import asyncio
from collections.abc import Callable

CALL_SECONDS = 120.0
"""The end of a call that nobody may cancel: past the limit after which the servers answer by themselves."""
CLOSE_SECONDS = 2.0
"""How long closing waits for calls whose callers have left."""


class UnbrokenCalls:
    """Those of one backend.

    Args:
        withdraw: ends a call that has not been sent yet, and no other.
    """

    def __init__(self, withdraw: Callable[[asyncio.Future[bytes]], None]) -> None:
        self._withdraw = withdraw
        self._calls: set[asyncio.Future[bytes]] = set()

    async def __call__(self, call: asyncio.Future[bytes]) -> bytes:
        """What a call comes to. A caller that is cancelled only stops listening, once the call has been sent.

        Raises:
            CallFailed: it failed.
        """
        self._calls.add(call)
        call.add_done_callback(self._ended)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self._withdraw(call)
            raise
        finally:
            del call  # a failed one holds its exception, that this frame, and that the request

    async def aclose(self) -> None:
        """Wait a moment for the calls whose callers have left."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=CLOSE_SECONDS)

    def _ended(self, call: asyncio.Future[bytes]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # who would have heard of it may have left
