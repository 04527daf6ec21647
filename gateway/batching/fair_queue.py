"""Who waits to be joined, and who goes next: fair between callers, in rows.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a request is tagged with the later of the
queue's virtual time and the end of its caller's last request, which ends as many rows later as it has; the
smallest tag goes first, and is the virtual time from then on. So a caller whose requests have many rows, or
who has many of them waiting, waits behind itself and not others behind it. One alone is served in order.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from gateway.inference import InferRequest

KNOWN_CALLERS = 64
"""When so many more than wait are remembered, those who have nothing waiting are forgotten."""

W = TypeVar("W")


class Closed(Enum):
    """Why a batch took no more; also the `reason` label of the metrics."""

    IDLE = "idle"  # nothing waited: it was sent as it came
    EMPTY = "empty"  # all that waited and could join it is in it
    ROWS = "rows"  # as many rows as may be in one
    LATENCY = "latency"  # as many rows as are answered in time
    PREFERRED = "preferred"  # a size that the engine prefers
    BYTES = "bytes"  # one more would have been too many bytes


@dataclass(slots=True, eq=False)
class Item(Generic[W]):
    """A request that waits.

    Attributes:
        request: the request.
        client: whose it is.
        size_bytes: what it adds to a batch.
        arrived: when it came; monotonic.
        waiter: whoever waits for it.
        group: where it waits; None once it does not.
    """

    request: InferRequest
    client: str
    size_bytes: int
    arrived: float
    waiter: W
    group: "Group[W] | None" = None

    @property
    def rows(self) -> int:
        """How many it has along the batch axis."""
        return self.request.inputs[0].shape[0]


@dataclass(slots=True, eq=False)
class Group(Generic[W]):
    """Items that may join one another, each after its tag.

    Attributes:
        key: what they have in common.
        excluded: names of the endpoints that none of them may go to.
        rows: of all of them together.
        heap: the items, by tag and order of arrival.
    """

    key: Hashable
    excluded: frozenset[str]
    rows: int = 0
    heap: list[tuple[float, int, Item[W]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one batch.

    Attributes:
        rows: the most that are answered in time.
        max_rows: the most that there may be at all.
        max_bytes: the most bytes; one request may always go, however large.
        preferred_rows: sizes that the engine runs best, in ascending order: where more waits than the
            smallest of them, the largest that can be filled.
    """

    rows: int
    max_rows: int
    max_bytes: int
    preferred_rows: tuple[int, ...] = ()


@dataclass(slots=True)
class Taken(Generic[W]):
    """What left the queue.

    Attributes:
        items: the batch; empty when all that waited had expired.
        expired: whose deadline has passed.
        closed: why the batch took no more.
    """

    items: list[Item[W]] = field(default_factory=list)
    expired: list[Item[W]] = field(default_factory=list)
    closed: Closed = Closed.EMPTY


class FairQueue(Generic[W]):
    """The queue of one pool; pure but for its own state."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, Group[W]] = {}
        self._ends: dict[str, float] = {}
        self._virtual = 0.0
        self._numbers = count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, key: Hashable, item: Item[W]) -> Group[W]:
        """Let an item wait with those of an equal key."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, item.request.excluded)
        start = max(self._virtual, self._ends.get(item.client, 0.0))
        self._ends[item.client] = start + item.rows
        heappush(group.heap, (start, next(self._numbers), item))
        item.group = group
        group.rows += item.rows
        self._length += 1
        return group

    def remove(self, item: Item[W]) -> None:
        """Take one out that does not wait any more."""
        group = item.group
        if group is None:
            return
        group.heap = [place for place in group.heap if place[2] is not item]
        heapify(group.heap)
        self._left(group, item)

    def groups(self) -> list[Group[W]]:
        """All of them, whose turn it is first."""
        return sorted(self._groups.values(), key=_first)

    def take(self, group: Group[W], bounds: Bounds, now: float) -> Taken[W]:
        """The next batch of a group, in order, up to its bounds; what has expired is in no batch."""
        rows_limit, closed_by_rows = _rows(bounds, group.rows)
        taken: Taken[W] = Taken()
        rows = size_bytes = 0
        while group.heap:
            tag, _, item = group.heap[0]
            if item.request.deadline <= now:
                taken.expired.append(item)
            elif taken.items and rows + item.rows > rows_limit:
                taken.closed = closed_by_rows
                break
            elif taken.items and size_bytes + item.size_bytes > bounds.max_bytes:
                taken.closed = Closed.BYTES
                break
            else:
                taken.items.append(item)
                rows += item.rows
                size_bytes += item.size_bytes
                self._virtual = max(self._virtual, tag)
            heappop(group.heap)
            self._left(group, item)
        return taken

    def _left(self, group: Group[W], item: Item[W]) -> None:
        item.group = None
        group.rows -= item.rows
        self._length -= 1
        if not group.heap:
            self._groups.pop(group.key, None)
        if not self._length:
            self._ends.clear()
        elif len(self._ends) > 2 * self._length + KNOWN_CALLERS:
            here = {item.client for group in self._groups.values() for _, _, item in group.heap}
            self._ends = {client: end for client, end in self._ends.items() if client in here}


def _first(group: Group[W]) -> tuple[float, int]:
    return group.heap[0][:2]


def _rows(bounds: Bounds, waiting: int) -> tuple[int, Closed]:
    """How many rows a batch of a group in which so many wait may have, and what it means to have them."""
    most = min(bounds.rows, waiting)
    preferred = max((rows for rows in bounds.preferred_rows if rows <= most), default=0)
    if preferred:
        return preferred, Closed.PREFERRED
    return bounds.rows, Closed.LATENCY if bounds.rows < bounds.max_rows else Closed.ROWS
