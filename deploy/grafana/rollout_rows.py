"""The dashboard's row on what is on trial: canaries, and shadows with how far their answers are apart."""

from deploy.grafana.queries import MODEL, Panel, Query, Row, quantile_of, summed_rate

SHADOW = "{{model}} {{target}}"
LABELS = "gateway_shadow_label_agreement_total"
MEAN = "gateway_shadow_mean_difference"


def _of(expr: str) -> str:
    """The same series, each with whose canary it is in `of`; that of the default has no label."""
    return f'label_join({expr}, "of", " ", "model", "label")'


ROLLOUTS = Row(
    "Canaries and shadows",
    (
        Panel(
            "Canary's share of the requests",
            "As configured, as somebody set it since, or 0 after a rollback. The largest of all gateways.",
            "percentunit",
            (Query(_of(f"max by (model, label) (gateway_canary_weight_ratio{{{MODEL}}})"), "{{of}}"),),
        ),
        Panel(
            "Canary: requests by target and outcome",
            "Those that were drawn and that no cache answered.",
            "reqps",
            (
                Query(
                    _of(summed_rate("gateway_canary_requests_total", "model, label, target, outcome")),
                    "{{of}} {{target}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Canary: rollbacks in thirty minutes",
            "Any raises InferwayCanaryRolledBack.",
            "short",
            (
                Query(
                    _of(f"sum by (model, label) (increase(gateway_canary_rollbacks_total{{{MODEL}}}[30m]))"),
                    "{{of}}",
                ),
            ),
        ),
        Panel(
            "Shadow: requests by outcome",
            "equal or different by the tolerance, or how they failed; dropped: too many were waiting.",
            "reqps",
            (
                Query(
                    summed_rate("gateway_shadow_requests_total", "model, target, outcome"),
                    f"{SHADOW} {{{{outcome}}}}",
                ),
                Query(summed_rate("gateway_shadow_dropped_total", "model, target"), f"{SHADOW} dropped"),
            ),
        ),
        Panel(
            "Shadow: difference from the client's answer",
            "The largest of an answer (99th percentile), and the mean over all values.",
            "short",
            (
                Query(
                    quantile_of(0.99, "gateway_shadow_largest_difference", "model, target"),
                    f"{SHADOW} largest, p99",
                ),
                Query(
                    f"{summed_rate(f'{MEAN}_sum', 'model, target')}"
                    f" / {summed_rate(f'{MEAN}_count', 'model, target')}",
                    f"{SHADOW} mean",
                ),
            ),
        ),
        Panel(
            "Shadow: items with the same label, share",
            "Of classifiers: the label with the highest value is the one that the client got.",
            "percentunit",
            (
                Query(
                    summed_rate(LABELS, "model, target", 'result="same"')
                    + " / "
                    + summed_rate(LABELS, "model, target"),
                    SHADOW,
                ),
            ),
        ),
    ),
)
