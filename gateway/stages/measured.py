"""Measured: what the client sees, timed from the first byte of its request to the encoded reply.

It is the outermost of all and covers decoding and encoding, which happen outside of every Infer; so it is a
context manager that the edges hold around their whole work, and not a wrapper of an Infer.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from prometheus_client import Histogram

from gateway.catalog import Catalog
from gateway.errors import Code, InferwayError
from gateway.inference import InferResponse
from gateway.metrics import Metrics

OK = "ok"
CANCELLED = "cancelled"


class Measured:
    """Starts measurements.

    Args:
        metrics: where they end up.
        catalog: the names that may become label values; any other is `unknown`.
        clock: seconds, monotonic.
    """

    def __init__(
        self, metrics: Metrics, catalog: Catalog, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics = metrics
        self._catalog = catalog
        self._clock = clock
        self._children: dict[tuple[str, str, str, str], Histogram] = {}

    def start(self, protocol: str) -> "Measurement":
        """One measurement, from now on."""
        return Measurement(self, protocol, self._clock())

    def record(self, measurement: "Measurement", outcome: str) -> None:
        """Put a finished measurement into the histogram."""
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
        child.observe(self._clock() - measurement.started)


class Measurement:
    """One request's measurement; a context manager around all that is done for it.

    Attributes:
        model: as the client named it.
        version: as the client named it, then as it was answered.
    """

    __slots__ = ("_measured", "model", "protocol", "started", "version")

    def __init__(self, measured: Measured, protocol: str, started: float) -> None:
        self._measured = measured
        self.protocol = protocol
        self.started = started
        self.model = ""
        self.version = ""

    def asks(self, model: str, version: str = "") -> None:
        """The request names this model: known as soon as the route is, refusals included."""
        self.model, self.version = model, version

    def answered(self, response: InferResponse) -> None:
        """The chain answered: its concrete version replaces the one asked for."""
        self.version = response.version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._measured.record(self, _outcome(value))


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return OK
    if isinstance(error, InferwayError):
        return error.code.value
    return Code.INTERNAL.value if isinstance(error, Exception) else CANCELLED
