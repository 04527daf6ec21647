"""Who waits for a pool: highest priority first, then the earliest deadline, then first come.

Earliest deadline first serves most within their deadlines while there is capacity for all, and falls apart
under overload (Liu and Layland 1973; Locke 1986), where it goes on serving what is already late: `Gate` adds
what that needs, and lets nobody in or through who cannot be answered in time.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class Place(Generic[T]):
    """One who waits, in order.

    Attributes:
        priority: 1 is the highest.
        deadline: until when it wants the answer.
        number: of its coming; no two are equal.
        request_bytes: what it holds in memory.
        waiter: whose it is.
    """

    priority: int
    deadline: float
    number: int
    request_bytes: int
    waiter: T


class WaitingQueue(Generic[T]):
    """The places, sorted: a bisection to find one, a move of pointers to put it in or take it out.

    Attributes:
        request_bytes: of all who wait.
    """

    def __init__(self) -> None:
        self.request_bytes = 0
        self._places: list[Place[T]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._places)

    def __reversed__(self) -> Iterator[Place[T]]:
        return reversed(self._places)

    def place(self, priority: int, deadline: float, request_bytes: int, waiter: T) -> Place[T]:
        """A place behind all that come before it; it is not in the queue yet."""
        return Place(priority, deadline, next(self._numbers), request_bytes, waiter)

    def ahead_of(self, place: Place[T]) -> int:
        """How many are served before it."""
        return bisect_left(self._places, place)

    def put(self, place: Place[T]) -> None:
        """Let it wait."""
        insort(self._places, place)
        self.request_bytes += place.request_bytes

    def first(self) -> Place[T]:
        """Who is next; IndexError when nobody waits."""
        return self._places[0]

    def remove(self, place: Place[T]) -> bool:
        """Take it out; False when it was not there."""
        at = bisect_left(self._places, place)
        if at == len(self._places) or self._places[at].number != place.number:
            return False
        del self._places[at]
        self.request_bytes -= place.request_bytes
        return True
