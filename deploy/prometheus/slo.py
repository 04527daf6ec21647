"""What is promised to clients, and the rules that say when the promise is in danger.

This is the one place of the objectives. `make dashboards` writes `slo_rules.yml` from them, the dashboard
draws them, and `make lint` sees that both are up to date.

The alerts are multi-window and multi-burn-rate, with the windows and rates of the SRE workbook, chapter 5,
"Alerting on SLOs" (https://sre.google/workbook/alerting-on-slos/): a page when 2 % of a month's error budget
went in an hour or 5 % in six, a ticket when 10 % went in one day or in three. The short window, a twelfth of
the long one, ends the alert soon after the trouble has ended.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.generated import as_yaml, write_or_check

PATH = Path(__file__).with_name("slo_rules.yml")
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
AT_LEAST = 10
"""Bad requests in the long window before an alert fires: with little traffic a single one would be a burn."""

BLAMED = "unavailable|deadline_exceeded|internal"
"""The outcomes that are the gateway's or an engine's fault. What the caller did wrong is neither good nor
bad, and stands in no sum: else a client that sends nonsense would make the share of errors look small.

What was shed on purpose is bad (`unavailable`; `deadline_exceeded` where it expired in the queue), as any 5xx
is in the SRE workbook's own example, chapter 2. The objective is a promise to callers: they got no answer,
whatever the reason; were it left out, a gateway that sheds everything would keep its promise. So it is one on
capacity, too. A caller over its own rate or quota (`quota_exceeded`) broke the agreement itself: left out."""

RUNBOOK = "{{ with $externalLabels.runbook }}{{ . }}{{ else }}docs/runbook.md{{ end }}"
"""The address of your copy of the page, if Prometheus has it as an external label; else its path here."""


@dataclass(frozen=True, slots=True)
class Slo:
    """An objective over 30 days, for each model.

    Attributes:
        name: of its alerts, `Inferway<name>BudgetBurn...`.
        objective_ratio: the share of requests that must be good.
        promise: the objective in words.
        bad: what a bad request did, in words.
        metric: the middle of the recorded rules' names.
        events: PromQL of the bad requests and of all, by model; `{function}` and `{window}` are left open.
    """

    name: str
    objective_ratio: float
    promise: str
    bad: str
    metric: str
    events: tuple[str, str]

    @property
    def budget_ratio(self) -> float:
        """The share of requests that may be bad."""
        return round(1 - self.objective_ratio, 9)

    def ratio(self, window: str) -> str:
        """The name of the rule with the share of bad requests in a window."""
        return f"model:{self.metric}:ratio_rate{window}"

    def bad_events(self, function: str, window: str) -> str:
        """PromQL of the bad requests, by model: `function` is `rate` or `increase`."""
        return self.events[0].format(function=function, window=window)

    def all_events(self, function: str, window: str) -> str:
        """PromQL of the requests that are good or bad, by model."""
        return self.events[1].format(function=function, window=window)


SLOW_SECONDS = 0.25
"""A reply within it is good. It must be a bound of the histogram's buckets, so that the share is exact."""

COUNT = "gateway_request_duration_seconds_count"
BUCKET = "gateway_request_duration_seconds_bucket"


def _sum(selector: str) -> str:
    """A sum by model over a selector whose braces are doubled for `str.format`."""
    return f"sum by (model) ({{function}}({selector}[{{window}}]))"


_ALL = _sum(f'{COUNT}{{{{outcome=~"ok|{BLAMED}"}}}}')
_BLAMED = _sum(f'{COUNT}{{{{outcome=~"{BLAMED}"}}}}')
_ANSWERED = _sum(f'{COUNT}{{{{outcome="ok"}}}}')
_IN_TIME = _sum(f'{BUCKET}{{{{outcome="ok",le="{SLOW_SECONDS:g}"}}}}')

ERRORS = Slo(
    "Error",
    objective_ratio=0.999,
    promise="99.9 % of requests do not fail by fault of the gateway or its engines",
    bad="failed by fault of the gateway or its engines",
    metric="gateway_request_errors",
    # `or ... * 0`: a model without any error has a share of 0, and not none.
    events=(f"({_BLAMED} or {_ALL} * 0)", _ALL),
)
LATENCY = Slo(
    "Latency",
    objective_ratio=0.99,
    promise=f"99 % of answers take no longer than {SLOW_SECONDS:g} s, from the first byte to the reply",
    bad=f"were answered after more than {SLOW_SECONDS:g} s",
    metric="gateway_slow_requests",
    events=(f"({_ANSWERED} - {_IN_TIME})", _ANSWERED),
)
SLOS = (ERRORS, LATENCY)


@dataclass(frozen=True, slots=True)
class Burn:
    """An alert on how fast the budget is spent.

    Attributes:
        name: the end of the alert's name.
        severity: `page` wakes somebody up, `ticket` waits for the morning.
        windows: long window, short window, and how many times too fast the budget is spent.
    """

    name: str
    severity: str
    windows: tuple[tuple[str, str, float], ...]


BURNS = (
    Burn("Fast", "page", (("1h", "5m", 14.4), ("6h", "30m", 6))),
    Burn("Slow", "ticket", (("1d", "2h", 3), ("3d", "6h", 1))),
)


def rules() -> dict[str, Any]:
    """The content of `slo_rules.yml`."""
    recorded = [
        {
            "record": slo.ratio(window),
            "expr": f"{slo.bad_events('rate', window)}\n/ ({slo.all_events('rate', window)} > 0)",
        }
        for slo in SLOS
        for window in WINDOWS
    ]
    alerts = [_alert(slo, burn) for slo in SLOS for burn in BURNS]
    # Three days of samples are too many to add up at every evaluation.
    return {"groups": [{"name": "gateway_slo", "interval": "30s", "rules": [*recorded, *alerts]}]}


def _alert(slo: Slo, burn: Burn) -> dict[str, Any]:
    name = f"Inferway{slo.name}BudgetBurn{burn.name}"
    return {
        "alert": name,
        "expr": "\nor\n".join(_burns(slo, *window) for window in burn.windows),
        "labels": {"severity": burn.severity, "slo": slo.name.lower()},
        "annotations": {
            "summary": f"{{{{ $labels.model }}}}: the {slo.name.lower()} budget burns {burn.name.lower()}",
            "description": "{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} "
            f"{slo.bad}. The objective: {slo.promise}.",
            "runbook_url": f"{RUNBOOK}#{name.lower()}",
        },
    }


def _burns(slo: Slo, long: str, short: str, rate: float) -> str:
    limit = f"{rate:g} * {slo.budget_ratio:g}"
    return (
        f"(\n  {slo.ratio(long)} > {limit}\n  and {slo.ratio(short)} > {limit}\n"
        f"  and {slo.bad_events('increase', long)} >= {AT_LEAST}\n)"
    )


def rendered() -> str:
    """`slo_rules.yml` as it must be."""
    return "# Made from slo.py by `make dashboards`: change that.\n" + as_yaml(rules())


def main(arguments: list[str]) -> int:
    """Write the rules; with `--check` say whether they are up to date instead."""
    return write_or_check(PATH, rendered(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
