"""Counters and histograms without locks: what a scrape reads of them is what the library's own would say."""

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from gateway import plain_metrics

BUCKETS = (0.001, 0.25, 1.0)
AMOUNTS = (0.0, 0.001, 0.0011, 0.25, 0.3, 1.0, 1.5, float("inf"))


def counted(counter: type[prometheus_client.Counter], histogram: type[prometheus_client.Histogram]) -> str:
    """A page of what both have counted, in both of the formats."""
    registry = CollectorRegistry()
    bare = counter("bare", "Without labels.", registry=registry)
    labelled = counter("labelled", "With.", ["model"], registry=registry)
    seconds = histogram("seconds", "Without labels.", registry=registry, buckets=BUCKETS)
    by_model = histogram("by_model", "With.", ["model"], registry=registry, buckets=BUCKETS)
    counter("untouched", "Nothing has happened.", registry=registry)
    bare.inc()
    bare.inc(2.5)
    labelled.labels("a").inc()
    labelled.labels("b")
    for amount in AMOUNTS:
        seconds.observe(amount)
        by_model.labels("a").observe(amount)
    by_model.labels("b")
    pages: list[bytes] = [generate_latest(registry), openmetrics(registry)]  # type: ignore[no-untyped-call]
    return b"".join(pages).decode()


def test_a_scrape_reads_what_the_librarys_own_would_say() -> None:
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # as the gateway does
    ours = counted(plain_metrics.Counter, plain_metrics.Histogram)
    assert ours == counted(prometheus_client.Counter, prometheus_client.Histogram)
    assert 'by_model_bucket{le="0.25",model="a"} 4.0' in ours
