"""The dashboard's rows on what becomes of a request on its way: caches, admission, retries and hedges."""

from deploy.grafana.queries import MODEL, RATE, REQUESTS, Panel, Query, Row, quantile_of, summed_rate

POOL = "model, version, variant"
POOL_LEGEND = "{{model}} {{version}} {{variant}}"

CACHE = Row(
    "Cache",
    (
        Panel(
            "Hits by tier, share",
            "memory; shared: joined an identical request; redis. Each sees what the one before missed.",
            "percentunit",
            (Query(f"model_tier:gateway_cache_hits:ratio5m{{{MODEL}}}", "{{model}} {{tier}}"),),
        ),
        Panel(
            "Look-ups",
            "A second, by tier and result.",
            "ops",
            (Query(summed_rate("gateway_cache_lookups_total", "tier, result"), "{{tier}} {{result}}"),),
        ),
        Panel(
            "Work saved by caches",
            "Requests that would be under way behind the caches without them: seconds saved a second.",
            "short",
            (Query(summed_rate("gateway_cache_saved_seconds_total", "model, tier"), "{{model}} {{tier}}"),),
        ),
        Panel(
            "Memory tier",
            "Bytes held by each gateway; `cache.memory_bytes` is the limit.",
            "bytes",
            (Query("gateway_cache_memory_bytes", "{{instance}}"),),
        ),
        Panel(
            "Redis answers",
            "Of the cache, of the API keys, of the quotas; of a cluster, the share of its masters. "
            "Nothing where none is configured.",
            "percentunit",
            tuple(
                Query(f"gateway_{purpose}_redis_up_ratio", f"{purpose} {{{{instance}}}}")
                for purpose in ("cache", "keys", "quota")
            ),
            kind="number",
        ),
        Panel(
            "Not asked of Redis",
            "Look-ups and answers to be kept that found too many waiting for Redis.",
            "ops",
            (Query(f"sum by (operation) (rate(gateway_cache_redis_skipped_total{RATE}))", "{{operation}}"),),
        ),
    ),
)

ADMISSION = Row(
    "Admission",
    (
        Panel(
            "Shed requests by reason",
            "full: too many wait. displaced: by a higher priority. late, expired: no time was left.",
            "reqps",
            (Query(summed_rate("gateway_admission_shed_total", "model, reason"), "{{model}} {{reason}}"),),
        ),
        Panel(
            "Limit and queue by pool",
            "How many requests a pool is sent at once, as its latency allows, and how many wait for that.",
            "short",
            tuple(
                Query(
                    f"sum by ({POOL}) (gateway_admission_{what}_requests{{{MODEL}}})", f"{POOL_LEGEND} {what}"
                )
                for what in ("limit", "queued")
            ),
        ),
        Panel(
            "Wait of those that were sent, p50 and p99",
            "Those that found room did not wait and are not in it.",
            "s",
            tuple(
                Query(
                    quantile_of(quantile, "gateway_admission_wait_duration_seconds", "model"),
                    f"{{{{model}}}} p{quantile * 100:g}",
                )
                for quantile in (0.5, 0.99)
            ),
        ),
    ),
)

BATCHES = Row(
    "Batches",
    (
        Panel(
            "Requests a batch",
            "Mean of what was sent to an endpoint as one call; 1 where nothing joined.",
            "short",
            (
                Query(
                    summed_rate("gateway_batch_requests_sum", "model")
                    + " / "
                    + summed_rate("gateway_batch_requests_count", "model"),
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Batches by why they closed",
            "idle, empty: nothing else waited. latency: more rows would be late. rows, bytes: at a limit.",
            "ops",
            (Query(summed_rate("gateway_batches_total", "model, reason"), "{{model}} {{reason}}"),),
        ),
        Panel(
            "Requests sent again alone",
            "A batch was refused for an input; bad input is found and fails nobody else.",
            "reqps",
            (Query(summed_rate("gateway_batch_reruns_total", "model"), "{{model}}"),),
        ),
    ),
)

RETRIES = Row(
    "Retries and hedges",
    (
        Panel(
            "Retries by result",
            "sent, or refused because the budget was spent; one in ten raises InferwayRetriesRefused.",
            "reqps",
            (Query(summed_rate("gateway_retries_total", "model, result"), "{{model}} {{result}}"),),
        ),
        Panel(
            "Retries for each request",
            "The budget's ratio is `retry.budget_ratio`.",
            "percentunit",
            (
                Query(
                    summed_rate("gateway_retries_total", "model", 'result="sent"')
                    + " / "
                    + summed_rate(REQUESTS, "model"),
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Hedges by result",
            "Second attempts beside a slow one. refused: their budget was spent, which is usual.",
            "reqps",
            (Query(summed_rate("gateway_hedges_total", "model, result"), "{{model}} {{result}}"),),
        ),
    ),
)
