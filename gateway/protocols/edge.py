"""What every protocol needs of the gateway behind it."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.catalog import Catalog
from gateway.chain import Infer
from gateway.errors import DeadlineExceeded, MalformedBody
from gateway.inference import InferResponse, Parameter
from gateway.stages.measured import Measured

CONSUMED_PARAMETERS = frozenset({"timeout", "priority", "variant", "binary_data_output", "binary_data_size"})
"""Request parameters that the gateway acts on itself: no backend sees them and no content key holds them."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edge:
    """The gateway as a protocol sees it.

    Attributes:
        infer: the chain.
        catalog: the models.
        is_ready: whether a pool of (model, concrete version) has an endpoint that takes traffic.
        measured: starts the measurement of a request.
        max_request_bytes: the largest body, as sent and once expanded.
        clock: seconds, monotonic.
        expanding: a turn to expand a compressed body: one at a time, since each may fill
            `max_request_bytes` from a thousandth of that.
        decoding: a turn to decode a file: one a core, since a picture of 75 kB may fill 64 MiB.
    """

    infer: Infer
    catalog: Catalog
    is_ready: Callable[[str, str], bool]
    measured: Measured
    max_request_bytes: int
    clock: Callable[[], float] = time.monotonic
    expanding: asyncio.Lock = field(default_factory=asyncio.Lock)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(os.cpu_count() or 1))

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
        """Whether every model's default version can be answered."""
        catalog = self.catalog
        return all(self.is_ready(name, c.default_version) for name, c in catalog.contracts.items()) and all(
            self.is_ready(name, "") for name in catalog.passthrough
        )


DEFAULT_TIMEOUT_SECONDS = 10.0
"""For models without a contract."""


async def in_thread(turn: asyncio.Lock | asyncio.Semaphore, work: Callable[[], T]) -> T:
    """What `work` makes, in a thread, in its turn.

    A thread cannot be stopped: the turn is over when its work is, and not when its caller has left, else
    callers with short deadlines would have any number of them at work.
    """
    await turn.acquire()
    done = asyncio.get_running_loop().run_in_executor(None, work)
    done.add_done_callback(lambda _: turn.release())
    try:
        return await asyncio.shield(done)
    finally:
        del done  # a failed one holds its exception, which holds this frame, and all that the work had made


def backend_parameters(parameters: Mapping[str, Parameter]) -> Mapping[str, Parameter]:
    """The request parameters that the backend is to see."""
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


def reply_facts(response: InferResponse) -> dict[str, str]:
    """What a reply says about itself: headers (`x-inferway-cache`, ...), metadata or parameters."""
    return {
        "x-inferway-cache": response.cache,
        "x-inferway-variant": response.variant,
        "x-inferway-version": response.version,
        "x-inferway-backend": response.backend,
    }
