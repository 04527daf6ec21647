"""Simulated time: what happens next, in order."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class Events:
    """A discrete-event queue. Events of one moment happen in the order in which they were planned.

    Attributes:
        now: the simulated time, seconds.
    """

    __slots__ = ("_heap", "_order", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def plan(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` at `when`, seconds, which is not before `now`."""
        heapq.heappush(self._heap, (when, next(self._order), action, arguments))

    def run(self) -> int:
        """Until nothing is planned; how many events that were."""
        heap, pop, count = self._heap, heapq.heappop, 0
        while heap:
            self.now, _, action, arguments = pop(heap)
            action(*arguments)
            count += 1
        return count
