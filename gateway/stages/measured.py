"""Measured: what the client sees, timed from the first byte of its request to the encoded reply.

It is the outermost of all and covers decoding and encoding, which happen outside of every Infer; so it is a
context manager that the edges hold around their whole work, and not a wrapper of an Infer.
"""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
from prometheus_client import Histogram

from gateway.catalog import Catalog
from gateway.errors import Code, InferwayError, Overloaded
from gateway.inference import InferResponse
from gateway.metrics import Metrics

OK = "ok"
CANCELLED = "cancelled"
FAULTS = frozenset(
    code.value for code in (Code.UNSUPPORTED, Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.INTERNAL)
)
"""The outcomes that HTTP gives a 5xx status: the gateway's or an engine's, not the caller's."""

_log = structlog.get_logger()


class Measured:
    """Starts measurements.

    Args:
        metrics: where they end up.
        catalog: the names that may become label values; any other is `unknown`.
        clock: seconds, monotonic.

    Attributes:
        metrics: where they end up.
        in_flight: requests whose measurement is under way.
    """

    def __init__(
        self, metrics: Metrics, catalog: Catalog, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics = metrics
        self._catalog = catalog
        self._clock = clock
        self._children: dict[tuple[str, str, str, str], Histogram] = {}
        self.in_flight = 0  # a plain number that the gauge reads when asked: a request takes no lock for it
        self._logs_every_request = _log.is_enabled_for(logging.DEBUG)

    def start(self, protocol: str, arrived: float | None = None) -> "Measurement":
        """One measurement, from when its request began to arrive, by the clock, or from now."""
        return Measurement(self, protocol, self._clock() if arrived is None else arrived)

    def record(self, measurement: "Measurement", outcome: str, error: BaseException | None) -> None:
        """Put a finished measurement into the histogram, and a request that failed into the log."""
        model, version = measurement.model, measurement.version
        contract = self._catalog.contracts.get(model)
        if contract is None:
            model, version = (model if model in self._catalog.passthrough else "unknown"), ""
        elif version not in contract.versions:
            version = ""
        labels = (model, version, measurement.protocol, outcome)
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self.metrics.requests.labels(*labels)
        seconds = self._clock() - measurement.started
        child.observe(seconds)
        measurement.model, measurement.version, measurement.outcome = model, version, outcome
        # Of what was shed there are many, and a line costs more than shedding does: a metric counts them.
        if outcome in FAULTS and not isinstance(error, Overloaded):
            facts = {**measurement.facts(), "error": type(error).__name__}  # its text may quote the payload
            surprise = None if isinstance(error, InferwayError) else error
            _log.warning("request_failed", **facts, duration_seconds=round(seconds, 6), exc_info=surprise)
        elif self._logs_every_request:
            _log.debug("request_finished", **measurement.facts(), duration_seconds=round(seconds, 6))


class Measurement:
    """One request's measurement; a context manager around all that is done for it.

    Attributes:
        model: as the client named it.
        version: as the client named it, then as it was answered.
        variant: that answered.
        cache: `InferResponse.cache`.
        backend: the kind of backend that computed the answer.
        response: the answer, once there is one.
        outcome: once it has ended; model and version are then configured names, or `unknown` and empty.
    """

    __slots__ = (
        "_measured",
        "backend",
        "cache",
        "model",
        "outcome",
        "protocol",
        "response",
        "started",
        "variant",
        "version",
    )

    def __init__(self, measured: Measured, protocol: str, started: float) -> None:
        self._measured = measured
        self.protocol = protocol
        self.started = started
        self.model = self.version = self.variant = self.cache = self.backend = self.outcome = ""
        self.response: InferResponse | None = None

    def asks(self, model: str, version: str = "") -> None:
        """The request names this model: known as soon as the route is, refusals included."""
        self.model, self.version = model, version

    def answered(self, response: InferResponse) -> None:
        """The chain answered: its concrete version replaces the one asked for."""
        self.response = response
        self.version, self.variant = response.version, response.variant
        self.cache, self.backend = response.cache, response.backend

    def facts(self) -> dict[str, str]:
        """What log lines and spans say of a request that has ended."""
        return {
            "model": self.model,
            "version": self.version,
            "variant": self.variant,
            "protocol": self.protocol,
            "outcome": self.outcome,
            "cache": self.cache,
            "backend": self.backend,
        }

    def __enter__(self) -> Self:
        self._measured.in_flight += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._measured.in_flight -= 1
        self._measured.record(self, outcome_of(value), value)


def outcome_of(error: BaseException | None) -> str:
    """How a request ended, in the words of the metrics: `ok`, `cancelled` or an error's code."""
    if error is None:
        return OK
    if isinstance(error, InferwayError):
        return error.code.value
    return Code.INTERNAL.value if isinstance(error, Exception) else CANCELLED
