"""The metrics of several processes as those of one: counters and histograms summed, gauges by their meaning.

prometheus_client's own way (its multiprocess mode: each value in a mapped file that whoever is scraped reads)
is not taken: it knows no `Gauge.set_function`, which the endpoints' gauges are, it costs a write to the map
with every count on the hot path, and its files have to be cleared away. Here a process pays only when it is
scraped.

A counter never goes back: what a process had counted when it was last asked stays in the sum after its end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""

GAUGES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "gateway_in_flight_requests": sum,
    "gateway_endpoint_in_flight_requests": sum,
    "gateway_cache_memory_bytes": sum,
    "gateway_admission_limit_requests": sum,  # each process has its own
    "gateway_admission_queued_requests": sum,
    # Processes may see an endpoint or a Redis differently: the share of them that has it.
    "gateway_endpoint_available_ratio": fmean,
    "gateway_endpoint_draining_ratio": fmean,
    "gateway_endpoint_load": fmean,  # what the balancer of a process compares; no process compares a sum
    "gateway_cache_redis_up_ratio": fmean,
    "gateway_keys_redis_up_ratio": fmean,
    "gateway_quota_redis_up_ratio": fmean,
    "gateway_canary_weight_ratio": fmean,
    "gateway_reload_ok_ratio": min,  # one that was refused anywhere is one to see to
    "gateway_configuration_loaded_timestamp_seconds": min,
    "gateway_processes": sum,
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_open_fds": sum,
    "process_max_fds": min,  # each process has a limit of its own: the tightest
    "process_start_time_seconds": min,
}
"""How each gauge of several processes becomes one; whoever adds a gauge says here what it means."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        documentation: its help text.
        kind: `counter`, `gauge` or `histogram`.
        samples: value by series.
    """

    documentation: str
    kind: str
    samples: Mapping[Series, float] = field(default_factory=dict)


Families = Mapping[str, Family]
"""Metrics by name, as `prometheus_client` names them: a counter without its `_total`."""


def to_json(registry: CollectorRegistry) -> list[Any]:
    """What a process has counted, for the channel to the supervisor."""
    return [
        [
            metric.name,
            metric.documentation,
            metric.type,
            [[s.name, s.labels, s.value] for s in metric.samples],
        ]
        for metric in registry.collect()
    ]


def from_json(told: Iterable[Any]) -> dict[str, Family]:
    """What `to_json` made, after the way."""
    return {
        name: Family(
            documentation,
            kind,
            {(sample, tuple(labels.items())): value for sample, labels, value in samples},
        )
        for name, documentation, kind, samples in told
    }


def merged(parts: Iterable[Families]) -> dict[str, Family]:
    """One of all.

    Raises:
        KeyError: a gauge that is not in `GAUGES`.
    """
    values: dict[str, dict[Series, list[float]]] = {}
    heads: dict[str, Family] = {}
    for part in parts:
        for name, family in part.items():
            heads.setdefault(name, family)
            every = values.setdefault(name, {})
            for series, value in family.samples.items():
                every.setdefault(series, []).append(value)
    return {
        name: Family(
            head.documentation,
            head.kind,
            {series: _one(name, head.kind, found) for series, found in values[name].items()},
        )
        for name, head in heads.items()
    }


def page(families: Families) -> bytes:
    """In Prometheus' text format."""
    return generate_latest(_Page(families))


class ProcessTotals:
    """What all processes have counted, those that have ended included."""

    def __init__(self) -> None:
        self._seen: dict[int, Families] = {}
        self._ended: Families = {}

    def saw(self, pid: int, families: Families) -> None:
        """A process told what it has counted."""
        self._seen[pid] = families

    def ended(self, pid: int) -> None:
        """A process is gone: its counts stay, its gauges do not."""
        counts = {name: family for name, family in self._seen.pop(pid, {}).items() if family.kind != "gauge"}
        self._ended = merged([self._ended, counts])

    def now(self, *more: Families) -> dict[str, Family]:
        """All of it as last seen, and `more`."""
        return merged([*more, self._ended, *self._seen.values()])


def _one(name: str, kind: str, values: Sequence[float]) -> float:
    return float(GAUGES[name](values)) if kind == "gauge" else sum(values)


class _Page(Collector):
    """Merged metrics in the shape that `generate_latest` reads."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            metric = Metric(name, family.documentation, family.kind)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
