"""Every Prometheus metric of the gateway, in one registry that the composition root makes.

Label values come only from configured names, so that a client cannot grow the number of series.
"""

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from gateway.plain_metrics import Counter, Histogram

disable_created_metrics()  # type: ignore[no-untyped-call] # when each series began: a third of the page, which nothing reads

LATENCY_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds in seconds: from a memory hit (100 us) to the longest deadline that is usual (30 s)."""

DIFFERENCE_BUCKETS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Upper bounds of how far two answers are apart: from the rounding of a float to another answer."""

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds in requests."""


class Metrics:
    """The metrics; one instance a process.

    Args:
        registry: where they are registered; tests bring one each.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)  # CPU time, memory, open files: `process_*`
        self.requests = Histogram(
            "gateway_request_duration_seconds",
            "From a request's first byte to its encoded reply, as the client sees it, refusals included.",
            ["model", "version", "protocol", "outcome"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.requests_in_flight = Gauge(
            "gateway_in_flight_requests",
            "Requests that the gateway is answering.",
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
        self.cache_saved = Counter(
            "gateway_cache_saved_seconds_total",
            "How long the answers that caches gave had taken when they were computed, waits included.",
            ["model", "tier"],
            registry=registry,
        )
        self.redis_skipped = Counter(
            "gateway_cache_redis_skipped_total",
            "Look-ups and writes that Redis was not asked for since too many were waiting.",
            ["operation"],
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "gateway_cache_memory_bytes",
            "Bytes held by the memory tier, encoded replies included.",
            registry=registry,
        )
        # Registered by `open_link` where a Redis is configured: a 0 without one would look like a loss.
        self.redis_up = Gauge(
            "gateway_cache_redis_up_ratio",
            "Share of the Redis (of a cluster: its masters) that answers; the gateway does without the rest.",
            registry=None,
        )
        self.refused = Counter(
            "gateway_refused_requests_total",
            "Requests that were refused for their API key, by reason.",
            ["reason"],
            registry=registry,
        )
        self.key_requests = Counter(
            "gateway_key_requests_total",
            "Requests with a valid API key, by the key's name and what became of them.",
            ["key", "result"],
            registry=registry,
        )
        self.keys_redis_up = Gauge(
            "gateway_keys_redis_up_ratio",
            "Share of the Redis with the API keys that answers; without it only keys seen before are let in.",
            registry=None,
        )
        self.quota_redis_up = Gauge(
            "gateway_quota_redis_up_ratio",
            "Share of the Redis of the quotas that answers; without it each gateway counts for itself.",
            registry=None,
        )
        # Registered by the supervisor, which is there where `server.processes` is more than 1.
        self.processes = Gauge(
            "gateway_processes",
            "Gateway processes that serve.",
            registry=None,
        )
        self.process_restarts = Counter(
            "gateway_process_restarts_total",
            "Times that a gateway process was started again after its end.",
            registry=None,
        )
        self.in_flight = Gauge(
            "gateway_endpoint_in_flight_requests",
            "Requests sent to an endpoint and not yet answered.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.available = Gauge(
            "gateway_endpoint_available_ratio",
            "1 while an endpoint takes traffic, 0 while it is not ready, draining or ejected.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.draining = Gauge(
            "gateway_endpoint_draining_ratio",
            "1 while an operator has drained an endpoint, else 0.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.load = Gauge(
            "gateway_endpoint_load",
            "The number that the balancer compares: in-flight and latency, in no unit.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.ejections = Counter(
            "gateway_endpoint_ejections_total",
            "Times that an endpoint was taken out for failing.",
            ["endpoint", "model", "version", "variant", "backend"],
            registry=registry,
        )
        self.discovery_lookups = Counter(
            "gateway_discovery_lookups_total",
            "Look-ups of an entry's addresses: ok, failed or empty; the last two change nothing.",
            ["endpoint", "result"],
            registry=registry,
        )
        self.heals = Counter(
            "gateway_endpoint_heals_total",
            "Times that a dead model, which its server thought ready, was loaded anew, by result.",
            ["endpoint", "model", "version", "variant", "backend", "result"],
            registry=registry,
        )
        self.retries = Counter(
            "gateway_retries_total",
            "Retries by what became of them: sent, or refused because the budget was spent.",
            ["model", "result"],
            registry=registry,
        )
        self.admission_limit = Gauge(
            "gateway_admission_limit_requests",
            "How many requests a pool is sent at once, as its answers have shown.",
            ["model", "version", "variant"],
            registry=registry,
        )
        self.admission_queued = Gauge(
            "gateway_admission_queued_requests",
            "Requests that wait to be sent to a pool.",
            ["model", "version", "variant"],
            registry=registry,
        )
        self.admission_waits = Histogram(
            "gateway_admission_wait_duration_seconds",
            "How long requests waited that were then sent; those that found room are not in it.",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.shed = Counter(
            "gateway_admission_shed_total",
            "Requests that were not sent, by reason: full, displaced, late, expired.",
            ["model", "reason"],
            registry=registry,
        )
        self.batch_requests = Histogram(
            "gateway_batch_requests",
            "Requests that were sent to an endpoint as one.",
            ["model"],
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self.batches = Counter(
            "gateway_batches_total",
            "What was sent to endpoints, joined or not, by why nothing more was joined.",
            ["model", "reason"],
            registry=registry,
        )
        self.batch_reruns = Counter(
            "gateway_batch_reruns_total",
            "Requests that were sent again alone, since an input of their batch may have been at fault.",
            ["model"],
            registry=registry,
        )
        self.hedges = Counter(
            "gateway_hedges_total",
            "Second attempts beside a slow first one: won, lost, or refused because the budget was spent.",
            ["model", "result"],
            registry=registry,
        )
        self._reloads(registry)
        self._rollouts(registry)

    def _reloads(self, registry: CollectorRegistry) -> None:
        """Configurations that were read again."""
        self.reloads = Counter(
            "gateway_reloads_total",
            "Times that the configuration was to be read again, by what came of it.",
            ["result"],
            registry=registry,
        )
        self.reload_ok = Gauge(
            "gateway_reload_ok_ratio",
            "1 while the last reload was taken, or there was none; 0 once it was refused.",
            registry=registry,
        )
        self.configuration_loaded = Gauge(
            "gateway_configuration_loaded_timestamp_seconds",
            "When the configuration that is served was taken, in seconds since 1970.",
            registry=registry,
        )

    def _rollouts(self, registry: CollectorRegistry) -> None:
        """Canaries and shadows."""
        self.canary_weight = Gauge(
            "gateway_canary_weight_ratio",
            "Share of the requests for a label of a model, or without one, that its canary answers.",
            ["model", "label"],
            registry=registry,
        )
        self.canary_requests = Counter(
            "gateway_canary_requests_total",
            "Requests that a canary was drawn for and no cache answered, by target and outcome.",
            ["model", "label", "target", "outcome"],
            registry=registry,
        )
        self.canary_rollbacks = Counter(
            "gateway_canary_rollbacks_total",
            "Times that a canary was taken back for its errors or its latency.",
            ["model", "label"],
            registry=registry,
        )
        self.shadow_requests = Counter(
            "gateway_shadow_requests_total",
            "Requests that a shadow was asked too, by target and outcome.",
            ["model", "target", "outcome"],
            registry=registry,
        )
        self.shadow_dropped = Counter(
            "gateway_shadow_dropped_total",
            "Requests that a shadow was not asked, since too many were waiting for it.",
            ["model", "target"],
            registry=registry,
        )
        self.shadow_largest_difference = Histogram(
            "gateway_shadow_largest_difference",
            "Largest absolute difference between the values of a shadow's answer and the client's.",
            ["model", "target"],
            buckets=DIFFERENCE_BUCKETS,
            registry=registry,
        )
        self.shadow_mean_difference = Histogram(
            "gateway_shadow_mean_difference",
            "Mean absolute difference between the values of a shadow's answer and the client's.",
            ["model", "target"],
            buckets=DIFFERENCE_BUCKETS,
            registry=registry,
        )
        self.shadow_label_agreement = Counter(
            "gateway_shadow_label_agreement_total",
            "Items that a shadow gave the same label as the client got, or another.",
            ["model", "target", "result"],
            registry=registry,
        )
