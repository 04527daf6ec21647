"""Grafana's files: what was made is up to date, whole, and provisioned. Its server is not run here."""

import json
from typing import Any

import pytest
import yaml

from deploy.grafana import dashboard
from deploy.grafana.panels import ROWS
from deploy.prometheus import operator_rules, slo
from gateway.metrics import LATENCY_BUCKETS
from tests.observability.monitoring import ROOT

GRAFANA = ROOT / "deploy" / "grafana"


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(dashboard.PATH.read_text())
    return loaded


@pytest.mark.parametrize("made", [dashboard, slo, operator_rules], ids=lambda made: made.PATH.name)
def test_what_is_made_from_code_is_up_to_date_and_a_change_is_seen(
    made: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.main(["--check"]) == 0
    stale = tmp_path / made.PATH.name
    stale.write_text(made.PATH.read_text() + "\n")
    monkeypatch.setattr(made, "PATH", stale)
    assert made.main(["--check"]) == 1
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0


def test_panels_have_their_own_ids_and_titles_and_do_not_overlap(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        x, y = at.get("x", 0), at.get("y", 0)
        cells = {(x + i, y + j) for i in range(at["w"]) for j in range(at["h"])}
        assert x + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_json_has_every_row_panel_and_query(board: dict[str, Any]) -> None:
    assert [p["title"] for p in board["panels"] if p["type"] == "row"] == [row.title for row in ROWS]
    drawn = {p["title"]: p for p in board["panels"] if p["type"] != "row"}
    for panel in (panel for row in ROWS for panel in row.panels):
        made = drawn.pop(panel.title)
        assert [t["expr"] for t in made["targets"]] == [query.expr for query in panel.queries]
        assert made["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert made["description"]
        assert made["fieldConfig"]["defaults"]["unit"] == panel.unit
    assert drawn == {}


def test_the_variables_are_those_that_the_queries_use(board: dict[str, Any]) -> None:
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "model"}


def test_the_provisioned_source_is_the_one_that_scrapes_at_that_interval() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "inferway.yml").read_text())
    prometheus = next(source for source in sources["datasources"] if source["type"] == "prometheus")
    scraping = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert prometheus["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    assert prometheus["isDefault"]


def test_grafana_finds_the_dashboard_where_compose_mounts_it() -> None:
    providers = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "inferway.yml").read_text())[
        "providers"
    ]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert providers[0]["options"]["path"] in mounted


def test_the_slow_answers_are_counted_exactly() -> None:
    assert slo.SLOW_SECONDS in LATENCY_BUCKETS
