"""The autoscaler's metric: the gateway has it, Prometheus can compute it, prometheus-adapter names it."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.manifests import Documents, named
from tests.deploy.reference_checks import NAMESPACE
from tests.deploy.rendering import ROOT, SOURCE
from tests.deploy.schema_checks import SCHEMAS, validator

RULES = SOURCE / "components" / "autoscaling" / "prometheus-adapter-rules.yaml"


def rule() -> dict[str, Any]:
    (only,) = yaml.safe_load(RULES.read_text())["rules"]
    return dict(only)


def test_the_rules_are_the_adapters() -> None:
    validator(SCHEMAS / "prometheus-adapter.yaml").validate(yaml.safe_load(RULES.read_text()))


def test_the_autoscaler_asks_for_what_the_adapter_makes_of_a_metric_that_the_gateway_has(
    rendered: dict[str, Documents],
) -> None:
    metrics = (named(rendered["base+autoscaling"], "HorizontalPodAutoscaler", "gateway") or {})["spec"][
        "metrics"
    ]
    (asked,) = [metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"]
    scaled = (named(rendered["base+keda"], "ScaledObject", "gateway") or {})["spec"]["triggers"]
    (query,) = [trigger["metadata"]["query"] for trigger in scaled if trigger["type"] == "prometheus"]
    assert rule()["name"]["as"] == asked
    assert rule()["seriesQuery"].startswith(f"{asked}{{")
    assert f'({asked}{{namespace="{NAMESPACE}"}}[' in query
    assert f"`{asked}`" in (ROOT / "docs" / "metrics.md").read_text()


def test_prometheus_takes_the_queries(rendered: dict[str, Documents], tmp_path: Path) -> None:
    series, labels = rule()["seriesQuery"].removesuffix("}").split("{")
    query = rule()["metricsQuery"]
    for placeholder, text in (("Series", series), ("LabelMatchers", labels), ("GroupBy", "pod")):
        query = query.replace(f"<<.{placeholder}>>", text)
    scaled = (named(rendered["base+keda"], "ScaledObject", "gateway") or {})["spec"]["triggers"]
    queries = [query, *(one["metadata"]["query"] for one in scaled if one["type"] == "prometheus")]
    rules = [{"record": f"test:{number}", "expr": text} for number, text in enumerate(queries)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
