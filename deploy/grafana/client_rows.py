"""The dashboard's rows on what clients see: the objectives, traffic, errors, latency."""

from deploy.grafana.queries import (
    ATTEMPTS,
    MODEL,
    RATE,
    REQUESTS,
    Panel,
    Query,
    Row,
    burn_of,
    quantile_of,
    summed_rate,
)
from deploy.prometheus.slo import BLAMED, ERRORS, LATENCY, SLOW_SECONDS

OBJECTIVES = Row(
    "Objectives",
    (
        Panel(
            "Error budget, burn rate",
            f"{ERRORS.promise}. 1 spends the month's budget in a month; 14.4 over an hour pages.",
            "short",
            burn_of(ERRORS),
        ),
        Panel(
            "Latency budget, burn rate",
            f"{LATENCY.promise}. 1 spends the month's budget in a month; 14.4 over an hour pages.",
            "short",
            burn_of(LATENCY),
        ),
        Panel(
            "Budget left of three days",
            "1 when nothing was bad; below 0 when more was bad than the objectives allow in three days.",
            "percentunit",
            tuple(
                Query(
                    f"1 - {slo.ratio('3d')}{{{MODEL}}} / {slo.budget_ratio:g}",
                    f"{{{{model}}}} {slo.name.lower()}",
                )
                for slo in (ERRORS, LATENCY)
            ),
            kind="number",
        ),
        Panel(
            "Alerts",
            "What fires or is about to; docs/runbook.md has an entry for each.",
            "short",
            (
                Query(
                    'sum by (alertname, alertstate) (ALERTS{alertname=~"Inferway.*"})',
                    "{{alertname}} {{alertstate}}",
                ),
            ),
            width=24,
        ),
    ),
)

TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Requests by model",
            "Requests a second as clients see them, refusals included.",
            "reqps",
            (Query(summed_rate(REQUESTS, "model"), "{{model}}"),),
        ),
        Panel(
            "Requests by protocol",
            "Which wire protocol they came over.",
            "reqps",
            (Query(summed_rate(REQUESTS, "protocol"), "{{protocol}}"),),
        ),
        Panel(
            "Answers by engine",
            "Attempts that were answered: what no cache had.",
            "reqps",
            (
                Query(
                    summed_rate(f"{ATTEMPTS}_count", "backend, variant", 'outcome="ok"'),
                    "{{backend}} {{variant}}",
                ),
            ),
        ),
    ),
)

FAILURES = Row(
    "Errors",
    (
        Panel(
            "Failed requests, share",
            "Failed by fault of the gateway or its engines: the errors that the objective counts.",
            "percentunit",
            (Query(f"{ERRORS.ratio('5m')}{{{MODEL}}}", "{{model}}"),),
        ),
        Panel(
            "Failed requests by outcome",
            "unavailable: no endpoint was left. deadline_exceeded: no time was left. internal: a bug.",
            "reqps",
            (
                Query(
                    summed_rate(REQUESTS, "model, outcome", f'outcome=~"{BLAMED}"'), "{{model}} {{outcome}}"
                ),
            ),
        ),
        Panel(
            "What callers did wrong",
            "Requests that do not fit, that name what is not there, or whose caller left.",
            "reqps",
            (
                Query(
                    summed_rate(REQUESTS, "model, outcome", f'outcome!~"ok|{BLAMED}"'),
                    "{{model}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Failed attempts",
            "One attempt at one endpoint; a retry may still have answered the client.",
            "reqps",
            (
                Query(
                    summed_rate(
                        f"{ATTEMPTS}_count",
                        "backend, outcome",
                        'outcome!~"ok|abandoned"',
                    ),
                    "{{backend}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Refused for their key",
            "By reason: no key, a wrong one, one that may not call the model, over its rate or its quota.",
            "reqps",
            (Query(f"sum by (reason) (rate(gateway_refused_requests_total{RATE}))", "{{reason}}"),),
        ),
        Panel(
            "Requests by key",
            "With a valid key: let in, or refused. Nothing where no keys are configured.",
            "reqps",
            (
                Query(
                    f"sum by (key, result) (rate(gateway_key_requests_total{RATE}))",
                    "{{key}} {{result}}",
                ),
            ),
        ),
    ),
)

TIMES = Row(
    "Latency",
    (
        Panel(
            "Requests, p50, p95 and p99 by model",
            "From a request's first byte to its encoded reply.",
            "s",
            tuple(
                Query(
                    quantile_of(quantile, "gateway_request_duration_seconds", "model"),
                    f"{{{{model}}}} p{quantile * 100:g}",
                )
                for quantile in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            "Attempts, p95 by model, engine and variant",
            "What the engines take, without cache and retries.",
            "s",
            (
                Query(
                    quantile_of(0.95, ATTEMPTS, "model, backend, variant", 'outcome="ok"'),
                    "{{model}} {{backend}} {{variant}}",
                ),
            ),
        ),
        Panel(
            f"Answers after more than {SLOW_SECONDS:g} s, share",
            "The slow answers that the objective counts.",
            "percentunit",
            (Query(f"{LATENCY.ratio('5m')}{{{MODEL}}}", "{{model}}"),),
        ),
    ),
)
