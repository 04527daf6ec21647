"""Several processes' metrics as one: merged equals sum, gauges by meaning, and no counter goes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.supervisor.merging import GAUGES, ProcessTotals, from_json, merged, page, to_json

OBSERVED = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.integers(0, 20)), max_size=20)
"""What a process counts: label, how much, and how long it took."""


def counted(observed: list[tuple[str, int, int]]) -> CollectorRegistry:
    registry = CollectorRegistry()
    total = Counter("work_total", "Work.", ["kind"], registry=registry)
    took = Histogram("took_seconds", "Time.", ["kind"], buckets=(1.0, 5.0), registry=registry)
    for kind, amount, seconds in observed:
        total.labels(kind).inc(amount)
        took.labels(kind).observe(seconds)
    return registry


def samples(text: bytes) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@given(st.lists(OBSERVED, min_size=1, max_size=4))
def test_counters_and_histograms_of_all_are_those_of_one_process_that_did_all(
    parts: list[list[tuple[str, int, int]]],
) -> None:
    alone = counted([each for part in parts for each in part])
    together = page(merged(from_json(to_json(counted(part))) for part in parts))
    assert samples(together) == samples(generate_latest(alone))


def test_the_table_has_every_gauge_and_no_other() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for metric in vars(metrics).values():
        if isinstance(metric, Gauge) and metric not in registry._collector_to_names:
            registry.register(metric)
    gauges = {family.name for family in registry.collect() if family.type == "gauge"}
    assert set(GAUGES) == gauges


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("gateway_in_flight_requests", (3.0, 4.0), 7.0),
        ("gateway_cache_redis_up_ratio", (1.0, 0.0), 0.5),
        ("process_max_fds", (1024.0, 512.0), 512.0),
    ],
)
def test_a_gauge_is_merged_by_its_meaning(name: str, values: tuple[float, ...], expected: float) -> None:
    parts = []
    for value in values:
        registry = CollectorRegistry()
        Gauge(name, "A gauge.", registry=registry).set(value)
        parts.append(from_json(to_json(registry)))
    assert samples(page(merged(parts))) == {f"{name}[]": expected}


def test_what_a_process_has_counted_stays_when_it_ends_and_its_gauges_do_not() -> None:
    registry = counted([("a", 5, 1)])
    Gauge("gateway_in_flight_requests", "A gauge.", registry=registry).set(2)
    totals = ProcessTotals()
    totals.saw(1, from_json(to_json(registry)))
    totals.saw(2, from_json(to_json(counted([("a", 1, 1)]))))
    before = samples(page(totals.now()))
    totals.ended(1)
    totals.saw(3, from_json(to_json(counted([("b", 1, 1)]))))
    after = samples(page(totals.now()))
    assert before.pop("gateway_in_flight_requests[]") == 2
    assert before["work_total[('kind', 'a')]"] == 6
    assert {name: after[name] for name in before} == before
    assert "gateway_in_flight_requests[]" not in after


def test_a_process_that_ended_before_it_was_asked_has_counted_nothing() -> None:
    totals = ProcessTotals()
    totals.ended(1)
    assert totals.now() == {}
