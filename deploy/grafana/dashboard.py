"""Make Grafana's dashboard from `panels.py`: `make dashboards`; `make lint` sees that it is up to date.

Grafana's own library of builders writes the JSON (grafana-foundation-sdk): names and defaults are Grafana's.
"""

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import DataSourceRef, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, VariableRefresh, VariableSort

from deploy.generated import write_or_check
from deploy.grafana.panels import ROWS
from deploy.grafana.queries import Panel

PATH = Path(__file__).parent / "dashboards" / "inferway.json"
UID = "inferway"
SOURCE = DataSourceRef("prometheus", "${datasource}")
HEIGHT = 8
"""Of a panel, in Grafana's grid units."""


def rendered() -> str:
    """The dashboard's JSON as it must be."""
    board = (
        dashboard.Dashboard("Inferway")
        .uid(UID)
        .description("What clients see, and what the engines behind do. Made by deploy/grafana/dashboard.py.")
        .tags(["inferway"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("model")
            .label("Model")
            .datasource(SOURCE)
            .query("label_values(gateway_request_duration_seconds_count, model)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
        )
    )
    number = 0
    for row in ROWS:
        number += 1
        board.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            board.with_panel(_drawn(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _drawn(panel: Panel) -> timeseries.Panel | stat.Panel:
    """A panel as Grafana's builders have it."""
    drawn: timeseries.Panel | stat.Panel
    if panel.kind == "number":
        drawn = stat.Panel()
    else:
        legend = (
            common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        )
        drawn = timeseries.Panel().legend(legend.show_legend(show_legend=True)).fill_opacity(10)
        if panel.unit in {"reqps", "s", "bytes", "ops"}:
            drawn = drawn.min(0)
    drawn.title(panel.title).description(panel.description).unit(panel.unit).datasource(SOURCE)
    drawn.span(panel.width).height(HEIGHT)
    for index, query in enumerate(panel.queries):
        target = (
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + index))
        )
        drawn.with_target(target.instant() if panel.kind == "number" else target.range())
    return drawn


def main(arguments: list[str]) -> int:
    """Write the dashboard; with `--check` say whether it is up to date instead."""
    return write_or_check(PATH, rendered(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
