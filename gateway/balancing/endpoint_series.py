"""The metric series of a pool: of its attempts, and of each endpoint for as long as it is in the pool."""

from collections.abc import Callable
from functools import partial

from prometheus_client import Histogram

from gateway.backends import Heals
from gateway.balancing import heal
from gateway.balancing.endpoint import Endpoint
from gateway.inference import PoolKey
from gateway.metrics import Metrics


class EndpointSeries:
    """The series of one pool.

    Args:
        pool: what it serves.
        metrics: attempts, ejections, in-flight, available, draining, load.
        clock: seconds, monotonic.
    """

    def __init__(self, pool: PoolKey, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._metrics = metrics
        self._clock = clock
        self._attempts: dict[tuple[str, str], Histogram] = {}

    def add(self, endpoint: Endpoint) -> None:
        """Show an endpoint; one of the same name that was shown before is shown no longer."""
        labels = self._labels(endpoint)
        metrics = self._metrics
        metrics.ejections.labels(*labels)  # from 0 on, so that the first is an increase; heals too
        if isinstance(endpoint.infer, Heals):
            for result in heal.RESULTS:
                metrics.heals.labels(*labels, result)
        metrics.in_flight.labels(*labels).set_function(partial(_in_flight, endpoint))
        metrics.available.labels(*labels).set_function(partial(_available, endpoint, self._clock))
        metrics.draining.labels(*labels).set_function(partial(_draining, endpoint))
        metrics.load.labels(*labels).set_function(partial(_load, endpoint, self._clock))

    def remove(self, endpoint: Endpoint) -> None:
        """Show an endpoint no longer."""
        metrics = self._metrics
        gauges = (metrics.in_flight, metrics.available, metrics.draining, metrics.load)
        for metric in (metrics.ejections, *gauges):
            metric.remove(*self._labels(endpoint))
        for result in heal.RESULTS:
            metrics.heals.remove(*self._labels(endpoint), result)

    def ejected(self, endpoint: Endpoint) -> None:
        """Count an ejection of an endpoint that is shown."""
        self._metrics.ejections.labels(*self._labels(endpoint)).inc()

    def attempted(self, backend: str, outcome: str, seconds: float) -> None:
        """Count an attempt at an endpoint of this kind that came to this."""
        child = self._attempts.get((backend, outcome))
        if child is None:  # bound once
            pool = self._pool
            child = self._metrics.attempts.labels(pool.model, pool.version, pool.variant, backend, outcome)
            self._attempts[backend, outcome] = child
        child.observe(seconds)

    def _labels(self, endpoint: Endpoint) -> tuple[str, ...]:
        pool = self._pool
        return (endpoint.name, pool.model, pool.version, pool.variant, endpoint.backend)


def _in_flight(endpoint: Endpoint) -> float:
    return endpoint.in_flight


def _available(endpoint: Endpoint, clock: Callable[[], float]) -> float:
    takes_traffic = endpoint.is_ready and not endpoint.is_draining
    return float(takes_traffic and not endpoint.outlier.is_ejected(clock()))


def _draining(endpoint: Endpoint) -> float:
    return endpoint.is_draining


def _load(endpoint: Endpoint, clock: Callable[[], float]) -> float:
    return endpoint.load(clock())
