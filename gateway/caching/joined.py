"""Joins what is asked for in one tick of the event loop into one round trip."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class Joined(Generic[Item, Reply]):
    """Sends together what comes in one tick, or while all trips that may be under way are.

    Args:
        send: one trip: a reply to each item, in their order.
        items_max: of one trip.
        trips_max: under way at once.
        waiting_max: items that may wait for a trip.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Reply]]],
        *,
        items_max: int,
        trips_max: int,
        waiting_max: int,
    ) -> None:
        self._send = send
        self._items_max = items_max
        self._trips_max = trips_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[Item, asyncio.Future[Reply]]] = deque()
        self._trips: set[asyncio.Task[None]] = set()
        self._departs = False

    def ask(self, item: Item) -> asyncio.Future[Reply] | None:
        """The reply to come; None when too many wait. Who cancels it takes nothing from the others."""
        if len(self._waiting) >= self._waiting_max:
            return None
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, reply))
        self._depart()
        return reply

    def _depart(self) -> None:
        """Have a trip begin, if one more may, behind all that runs in this tick."""
        if self._departs or len(self._trips) >= self._trips_max:
            return
        self._departs = True
        trip = asyncio.create_task(self._travel())
        self._trips.add(trip)
        trip.add_done_callback(self._trips.discard)

    async def _travel(self) -> None:
        """Go until nobody waits."""
        self._departs = False
        while self._waiting:
            joined = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._items_max))]
            joined = [pair for pair in joined if not pair[1].done()]
            if self._waiting:
                self._depart()
            if joined:
                await self._carry(joined)

    async def _carry(self, joined: Sequence[tuple[Item, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await self._send([item for item, _ in joined])
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever, whatever it was
            for _, reply in joined:
                if not reply.done():
                    reply.set_exception(error)
            return
        for (_, reply), value in zip(joined, replies, strict=True):
            if not reply.done():
                reply.set_result(value)
