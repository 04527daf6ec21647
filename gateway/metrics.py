"""Every Prometheus metric of the gateway, in one registry that the composition root makes.

Label values come only from configured names, so that a client cannot grow the number of series.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds in seconds: from a memory hit (100 us) to the longest deadline that is usual (30 s)."""


class Metrics:
    """The metrics; one instance a process.

    Args:
        registry: where they are registered; tests bring one each.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Histogram(
            "gateway_request_duration_seconds",
            "From a request's first byte to its encoded reply, as the client sees it, refusals included.",
            ["model", "version", "protocol", "outcome"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.attempts = Histogram(
            "gateway_attempt_duration_seconds",
            "One attempt at one endpoint.",
            ["model", "version", "variant", "backend", "outcome"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.lookups = Counter(
            "gateway_cache_lookups_total",
            "Cache look-ups by tier (memory, shared, redis) and result (hit, miss).",
            ["model", "tier", "result"],
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "gateway_cache_memory_bytes", "Bytes held by the memory tier.", registry=registry
        )
        self.redis_up = Gauge(
            "gateway_cache_redis_up_ratio",
            "1 while Redis answers, 0 while the gateway does without it: it is down, or none is configured.",
            registry=registry,
        )
        self.in_flight = Gauge(
            "gateway_endpoint_in_flight_requests",
            "Requests sent to an endpoint and not yet answered.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.available = Gauge(
            "gateway_endpoint_available_ratio",
            "1 while an endpoint takes traffic, 0 while it is not ready or ejected.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.ejections = Counter(
            "gateway_endpoint_ejections_total",
            "Times that an endpoint was taken out for failing.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.retries = Counter(
            "gateway_retries_total",
            "Retries by what became of them: sent, or refused because the budget was spent.",
            ["model", "result"],
            registry=registry,
        )
