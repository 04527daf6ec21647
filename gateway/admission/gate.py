"""One pool's gate: who is sent, who waits, who is shed. Synchronous and pure; the stage does the waiting."""

from dataclasses import dataclass, field
from enum import Enum
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from gateway.admission.limit import AdaptiveLimit, LimitRules
from gateway.admission.queue import Place, WaitingQueue

WAIT_RATIO = 0.5
"""Of the time that a caller can spare, how much it may be expected to wait. Who was let in after the longest
wait that is possible would be late half of the time; and a queue that stands only makes every answer older,
whatever its length (Nichols and Jacobson, Controlling Queue Delay, 2012)."""


class Reason(Enum):
    """Why a request was shed; also the `reason` label of the metrics."""

    FULL = "full"  # as many wait as may, none of them less important
    DISPLACED = "displaced"  # one of higher priority took its place
    LATE = "late"  # it could not have been answered within its deadline
    EXPIRED = "expired"  # its deadline passed while it waited


class Waiter(Protocol):
    """Whoever waits."""

    @property
    def has_left(self) -> bool:
        """Whether nobody waits any more."""


W = TypeVar("W", bound=Waiter)


@dataclass(frozen=True, slots=True)
class GateRules:
    """Bounds of a gate.

    Attributes:
        limit: of what is in flight.
        max_queue_requests: how many may wait.
        max_queue_bytes: what those who wait may hold together; one may always wait, however large.
    """

    limit: LimitRules = field(default_factory=LimitRules)
    max_queue_requests: int = 1024
    max_queue_bytes: int = 128 * 1024 * 1024


@dataclass(slots=True)
class Turns(Generic[W]):
    """What became of those at the head of the queue.

    Attributes:
        sent: whose turn it is; each counts as in flight already.
        late: who can not be answered in time any more.
    """

    sent: list[W] = field(default_factory=list)
    late: list[W] = field(default_factory=list)


class Gate(Generic[W]):
    """The gate of one pool.

    Args:
        rules: its bounds.

    Attributes:
        rules: its bounds.
        in_flight: sent and unanswered, the retries and hedges of one request counted once.
        limit: how many may be.
        queue: who waits.
    """

    def __init__(self, rules: GateRules) -> None:
        self.in_flight = 0
        self.limit = AdaptiveLimit(rules.limit)
        self.queue: WaitingQueue[W] = WaitingQueue()
        self.rules = rules

    def enter(self) -> bool:
        """Send one at once, if there is room and nobody waits for it."""
        if self.in_flight >= self.limit.requests or len(self.queue):
            return False
        self.in_flight += 1
        return True

    def join(self, place: Place[W], now: float) -> tuple[Reason | None, list[W]]:
        """Let `place` wait, unless there is a reason not to; also returns who had to leave for it."""
        limit = self.limit
        spare_seconds = place.deadline - now - limit.wait_seconds(limit.requests)
        if limit.wait_seconds(self.queue.ahead_of(place) + 1) > WAIT_RATIO * spare_seconds:
            return Reason.LATE, []
        displaced = self._displaced(place)
        if displaced is None:
            return Reason.FULL, []
        for other in displaced:
            self.queue.remove(other)
        self.queue.put(place)
        return None, [other.waiter for other in displaced]

    def turns(self, now: float) -> Turns[W]:
        """Whose turn it is, now that there may be room."""
        turns: Turns[W] = Turns()
        while len(self.queue) and self.in_flight < self.limit.requests:
            place = self.queue.first()
            self.queue.remove(place)
            waiter = place.waiter
            if waiter.has_left:
                continue
            # Should the estimate be too high, nobody waits in the end, and who comes then is sent at once.
            if place.deadline - now <= self.limit.answer_seconds(self.in_flight):
                turns.late.append(waiter)
            else:
                self.in_flight += 1
                turns.sent.append(waiter)
        return turns

    def retry_after_seconds(self) -> float:
        """When all that is here now and one more will be answered: (in flight + waiting + 1) / rate."""
        return self.limit.wait_seconds(self.in_flight + len(self.queue) + 1)

    def _displaced(self, place: Place[W]) -> list[Place[W]] | None:
        """Those of lower priority, the last ones first, without whom there is room; None if there is none."""
        displaced: list[Place[W]] = []
        requests, held_bytes = len(self.queue), self.queue.request_bytes
        less_important = takewhile(lambda other: other.priority > place.priority, reversed(self.queue))
        while not self._has_room(requests, held_bytes + place.request_bytes):
            other = next(less_important, None)
            if other is None:
                return None
            displaced.append(other)
            requests -= 1
            held_bytes -= other.request_bytes
        return displaced

    def _has_room(self, others: int, request_bytes: int) -> bool:
        """Whether one more may wait beside so many, with so many bytes among all of them."""
        if others >= self.rules.max_queue_requests:
            return False
        return not others or request_bytes <= self.rules.max_queue_bytes
