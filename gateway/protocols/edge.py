"""What every protocol needs of the gateway behind it."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.access import Access
from gateway.caching.recall import Recall
from gateway.catalog import Catalog
from gateway.chain import Infer
from gateway.errors import DeadlineExceeded, MalformedBody
from gateway.inference import NO_PARAMETERS, InferResponse, Parameter
from gateway.stages.measured import Measured
from gateway.tracing import Tracing

CONSUMED_PARAMETERS = frozenset({"timeout", "priority", "variant", "binary_data_output", "binary_data_size"})
"""Request parameters that the gateway acts on itself: no backend sees them and no content key holds them."""

VARIANT, STICKY, PRIORITY = "x-inferway-variant", "x-inferway-sticky", "x-request-priority"
"""What callers may say in headers or metadata: the variant to answer, what keeps them on one side of a
canary, and who goes first."""

NO_SPAN: AbstractContextManager[None] = nullcontext()
"""What stands for a request's span while tracing is off."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edge:
    """The gateway as a protocol sees it, with one configuration: a request has one Edge from start to end.

    Attributes:
        infer: the chain.
        catalog: the models.
        is_ready: whether a pool of (model, concrete version) has an endpoint that takes traffic.
        measured: starts the measurement of a request.
        max_request_bytes: the largest body, as sent and once expanded.
        access: lets callers in by their API keys; None where everybody may ask.
        tracing: makes the spans; None when it is off.
        recall: answers bytes that were answered before; None where it may not.
        clock: seconds, monotonic.
        began: set when every model could be answered for the first time.
        leaving: set when this gateway is about to stop: it answers, and says that it is not ready.
        closing: set when it does stop: what is under way is answered, and calls that have no end are ended.
        newest: the Edge of the configuration that is served, which this one may have preceded.
        expanding: a turn to expand a compressed body: one at a time, since each may fill
            `max_request_bytes` from a thousandth of that.
        decoding: a turn to decode a file: one a core, since a picture of 75 kB may fill 64 MiB.
    """

    infer: Infer
    catalog: Catalog
    is_ready: Callable[[str, str], bool]
    measured: Measured
    max_request_bytes: int
    access: Access | None = None
    tracing: Tracing | None = None
    recall: Recall[Any] | None = None
    clock: Callable[[], float] = time.monotonic
    began: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    newest: "Callable[[], Edge] | None" = None
    expanding: asyncio.Lock = field(default_factory=asyncio.Lock)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(os.cpu_count() or 1))

    @property
    def now(self) -> "Edge":
        """The Edge of what begins now: streams and probes outlive a configuration, and ask again."""
        return self if self.newest is None else self.newest()

    def deadline(
        self, model: str, asked_seconds: float | None = None, *, arrived: float | None = None
    ) -> float:
        """When the caller will have gone; a point of `clock`.

        Args:
            model: as the caller names it.
            asked_seconds: its own timeout; without one the model's counts.
            arrived: when its request began to arrive; now, when it is not given.
        """
        if asked_seconds is None:
            contract = self.catalog.contracts.get(model)
            asked_seconds = contract.timeout_seconds if contract else DEFAULT_TIMEOUT_SECONDS
        return (self.clock() if arrived is None else arrived) + asked_seconds

    async def by(self, deadline: float, work: Awaitable[T], what: str) -> T:
        """What comes of `work`, which is done before the request gets to the chain.

        Args:
            deadline: the request's.
            work: what to wait for.
            what: what has happened when it is done, for the error's text.

        Raises:
            DeadlineExceeded: it was not done in time.
        """
        try:
            async with asyncio.timeout(deadline - self.clock()):
                return await work
        except TimeoutError as error:
            raise DeadlineExceeded(f"the deadline passed before {what}") from error

    @property
    def ready(self) -> bool:
        """Whether to send requests here: at first once every model can be answered, then while any can.

        All gateways of a deployment see the same engines. If a model that lost its last engine made each of
        them not ready, a balancer would take them all out, and with them every other model.
        """
        if self.leaving.is_set():
            return False
        catalog = self.catalog
        versions = {name: contract.default_version for name, contract in catalog.contracts.items()}
        versions |= dict.fromkeys(catalog.passthrough, "")
        found = [self.is_ready(name, version) for name, version in versions.items()]
        if all(found):
            self.began.set()
        return all(found) or (self.began.is_set() and any(found))


MAX_DIGITS = 20
"""Of a priority: Triton has an unsigned number of 64 bits."""
DEFAULT_TIMEOUT_SECONDS = 10.0
"""For models without a contract."""


async def in_thread(turn: asyncio.Lock | asyncio.Semaphore, work: Callable[[], T]) -> T:
    """What `work` makes, in a thread, in its turn.

    A thread cannot be stopped: the turn is over when its work is, and not when its caller has left, else
    callers with short deadlines would have any number of them at work.
    """

    def end(done: asyncio.Future[T]) -> None:
        turn.release()
        if not done.cancelled():
            done.exception()  # who would have heard of it may have left

    await turn.acquire()
    done = asyncio.get_running_loop().run_in_executor(None, work)
    done.add_done_callback(end)
    try:
        return await asyncio.shield(done)
    finally:
        del done  # a failed one holds its exception, which holds this frame, and all that the work had made


def backend_parameters(parameters: Mapping[str, Parameter]) -> Mapping[str, Parameter]:
    """The request parameters that the backend is to see."""
    if parameters.keys() <= CONSUMED_PARAMETERS:  # as of most requests
        return NO_PARAMETERS
    return {name: value for name, value in parameters.items() if name not in CONSUMED_PARAMETERS}


def timeout_seconds(parameters: Mapping[str, Parameter]) -> float | None:
    """OIP's `timeout` parameter in seconds (on the wire: microseconds, as Triton has it), if it is there.

    Raises:
        MalformedBody: it is not a number.
    """
    value = parameters.get("timeout")
    if value is None or value == "":
        return None
    try:
        microseconds = float(value)
    except ValueError as error:
        raise MalformedBody(f"parameter 'timeout': expected microseconds, got '{value}'") from error
    return microseconds / 1e6 if 0 < microseconds < float("inf") else None


def priority(parameters: Mapping[str, Parameter], header: str = "") -> int:
    """OIP's `priority` parameter, as Triton has it, else the header's `x-request-priority`; 0 is the default.

    Raises:
        MalformedBody: it is not a non-negative integer.
    """
    value = parameters.get("priority", header)
    if not value:
        return 0
    digits = str(value)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS):
        raise MalformedBody(f"priority: expected a non-negative integer, 1 the highest, got '{value}'")
    return int(value)


def reply_facts(response: InferResponse) -> dict[str, str]:
    """What a reply says about itself: headers (`x-inferway-cache`, ...), metadata or parameters."""
    return {
        "x-inferway-cache": response.cache,
        VARIANT: response.variant,
        "x-inferway-version": response.version,
        "x-inferway-backend": response.backend,
    }
