"""One replica of a model server, in simulated time: a bounded queue and some workers.

What it does with work that its caller has given up on is what TorchServe does: it does it. So an overloaded
replica is kept busy by requests that nobody waits for, which is what makes a retry storm stay.
"""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Protocol

from gateway.errors import EndpointBusy, EndpointFailed, EndpointFailure, EndpointUnreachable
from loadtests.simulator.events import Events

ERROR_SECONDS = 0.001
"""How long a refusal or an error takes to come back."""


class Attempt(Protocol):
    """What a replica is sent, and tells of its end."""

    def ended(self, failure: type[EndpointFailure] | None) -> None:
        """It was answered (None), or failed like this."""


@dataclass(frozen=True, slots=True)
class ServerRules:
    """How a replica works.

    Attributes:
        service_seconds: the mean time of one inference.
        service_shape: of the gamma distribution of that time: 1 is exponential, more is more regular.
        workers: inferences at once.
        queue_limit: requests that wait; one more is refused as EndpointBusy. TorchServe's job queue has 100.
    """

    service_seconds: float = 0.05
    service_shape: float = 4.0
    workers: int = 1
    queue_limit: int = 100


class Server:
    """A replica.

    Args:
        events: simulated time.
        rules: how it works.
        rng: draws its service times.

    Attributes:
        slowdown: an inference takes so many times as long as it should.
        is_up: takes connections; it loses all that it holds when it goes down.
        is_failing: answers every request with an error, at once.
        served: inferences done.
        busy_seconds: of all workers.
        longest_queue: the most requests that were there at once, those in service included.
    """

    __slots__ = (
        "_events", "_free", "_life", "_queue", "_rng", "_rules", "_scale", "_serving",
        "busy_seconds", "is_failing", "is_up", "longest_queue", "served", "slowdown",
    )  # fmt: skip

    def __init__(self, events: Events, rules: ServerRules, rng: Random) -> None:
        self._events = events
        self._rules = rules
        self._rng = rng
        self._scale = rules.service_seconds / rules.service_shape
        self._queue: deque[Attempt] = deque()
        self._serving: dict[Attempt, None] = {}  # in order: a set's order differs from run to run
        self._free = rules.workers
        self._life = 0
        self.slowdown = 1.0
        self.is_up = True
        self.is_failing = False
        self.served = 0
        self.busy_seconds = 0.0
        self.longest_queue = 0

    def accept(self, attempt: Attempt) -> None:
        """Take one request; its end is told to the attempt, never within this call."""
        if not self.is_up:
            self._refuse(attempt, EndpointUnreachable)
        elif self.is_failing:
            self._refuse(attempt, EndpointFailed)
        elif self._free:
            self._free -= 1
            self._serve(attempt)
        elif len(self._queue) < self._rules.queue_limit:
            self._queue.append(attempt)
        else:
            self._refuse(attempt, EndpointBusy)
        self.longest_queue = max(self.longest_queue, len(self._queue) + len(self._serving))

    def go_down(self) -> None:
        """Lose every connection, and what was asked over it."""
        lost = [*self._serving, *self._queue]
        self._serving.clear()
        self._queue.clear()
        self._free = self._rules.workers
        self._life += 1
        self.is_up = False
        for attempt in lost:
            attempt.ended(EndpointFailed)

    def come_up(self) -> None:
        """Take connections again, with nothing left of what was there before."""
        self.is_up = True

    def _refuse(self, attempt: Attempt, failure: type[EndpointFailure]) -> None:
        self._events.plan(self._events.now + ERROR_SECONDS, attempt.ended, failure)

    def _serve(self, attempt: Attempt) -> None:
        seconds = self._rng.gammavariate(self._rules.service_shape, self._scale) * self.slowdown
        self._serving[attempt] = None
        self._events.plan(self._events.now + seconds, self._done, attempt, seconds, self._life)

    def _done(self, attempt: Attempt, seconds: float, life: int) -> None:
        if life != self._life:
            return  # it went down meanwhile, and the attempt has been told
        del self._serving[attempt]
        self.served += 1
        self.busy_seconds += seconds
        if self._queue:
            self._serve(self._queue.popleft())
        else:
            self._free += 1
        attempt.ended(None)
