"""What a dashboard is made of, rows of panels of queries, and the PromQL that many of them share."""

from dataclasses import dataclass
from typing import Literal

from deploy.prometheus.slo import Slo

RATE = "[$__rate_interval]"
MODEL = 'model=~"$model"'
REQUESTS = "gateway_request_duration_seconds_count"
ATTEMPTS = "gateway_attempt_duration_seconds"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL; `$model` and `$__rate_interval` are the dashboard's.
        legend: of each series, with `{{label}}`.
    """

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: unique in the dashboard.
        description: what it says, for somebody who was woken up.
        unit: Grafana's name of it: `reqps`, `s`, `percentunit`, `bytes`, `short`, `bool_on_off`.
        queries: what is drawn.
        kind: a graph, or the latest values as numbers.
        width: of 24 columns.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["graph", "number"] = "graph"
    width: int = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A row with a title, and its panels from left to right."""

    title: str
    panels: tuple[Panel, ...]


def summed_rate(metric: str, by: str, *matchers: str) -> str:
    """The rate of a counter, summed over all gateways."""
    return f"sum by ({by}) (rate({metric}{{{', '.join((MODEL, *matchers))}}}{RATE}))"


def quantile_of(quantile: float, metric: str, by: str, *matchers: str) -> str:
    """A quantile of a histogram, in seconds."""
    return f"histogram_quantile({quantile:g}, {summed_rate(f'{metric}_bucket', f'{by}, le', *matchers)})"


def burn_of(slo: Slo) -> tuple[Query, ...]:
    """How many times too fast a budget is spent, over the windows of the fast alert."""
    return tuple(
        Query(f"{slo.ratio(window)}{{{MODEL}}} / {slo.budget_ratio:g}", f"{{{{model}}}} {window}")
        for window in ("5m", "1h", "6h")
    )
