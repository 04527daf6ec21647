"""Every query, rule and alert, against a real Prometheus that has scraped a real gateway with traffic."""

import asyncio
import contextlib
import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.grafana.panels import ROWS
from deploy.grafana.queries import Query
from gateway.keys import __main__ as keys
from tests.load import distinct_images, drive
from tests.observability.monitoring import ROOT, Api, running_prometheus, until
from tests.serving import EMBEDDED, MODEL, StartedGateway, running_gateway, running_redis, running_triton

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

PROMETHEUS = ROOT / "deploy" / "prometheus"
SELECTOR = re.compile(r"\b((?:[a-z_]+:)?gateway_[\w:]+|up)\b(\{[^}]*\})?")
"""A metric of a rule's expression, with its matchers."""

RULES = [
    rule
    for name in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["rule_files"]
    for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
    for rule in group["rules"]
]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Prometheus after traffic with hits, misses, retries, failures, mistakes, a canary and a shadow.

    The gateway has two processes, and finds Triton in a file.
    """
    folder = tmp_path_factory.mktemp("queries")
    with running_redis(folder / "redis") as (_, port), running_triton(folder / "triton") as triton:
        found = folder / "addresses.yaml"
        found.write_text(json.dumps([triton.endpoint["address"]]))
        endpoints = {"triton": {"backend": "triton", "file": str(found)}, "embedded": EMBEDDED}
        # A busy machine is not a lost Redis.
        url = f"redis://127.0.0.1:{port}/0"
        redis = {"redis": {"url": url, "timeout_seconds": 5.0}}
        settings = {
            "server": {"processes": 2},
            "endpoints": endpoints,
            "pools": [
                {"model": MODEL, "variant": "fp32", "endpoints": list(endpoints)},
                {"model": MODEL, "variant": "int8", "endpoints": ["embedded"]},
            ],
            "rollouts": [
                {"model": MODEL, "canary_variant": "int8", "weight": 0.2},
                {"model": MODEL, "label": "stable", "canary_variant": "int8", "weight": 0.2},
            ],
            "shadows": [{"model": MODEL, "to": {"endpoints": ["embedded"]}, "ratio": 1.0}],
            **dict.fromkeys(("cache", "keys", "quotas"), redis),
        }
        key = _new_key(url)
        with (
            running_gateway(folder / "gateway", settings) as gateway,
            running_prometheus(folder / "prometheus", gateway.admin) as prometheus,
        ):

            async def kill() -> None:
                triton.running.kill()

            seen = 'gateway_endpoint_available_ratio{backend="triton"} == 1'
            until(lambda: bool(prometheus.query(seen)), "Triton was never seen to be available", 60.0)
            images = distinct_images(400)
            # Twice: what a counter counts before it is first scraped is no rate.
            asyncio.run(drive(gateway.http, images[:300], connections=8, events={150: kill}, headers=key))
            _fail(gateway, key)
            scraped = 'gateway_request_duration_seconds_count{outcome="deadline_exceeded"}'
            until(lambda: bool(prometheus.query(scraped)), "the failures were never scraped", 60.0)
            asyncio.run(drive(gateway.http, images, connections=8, headers=key))
            _fail(gateway, key)
            until(lambda: not _missing(prometheus), "some rules were never recorded", 90.0)
            yield prometheus


def _missing(prometheus: Api) -> list[str]:
    """The recorded rules without data; each group of rules is evaluated at a time of its own."""
    return [record for record in RULES_RECORDED if not prometheus.query(record)]


def _new_key(redis: str) -> dict[str, str]:
    """The header with an API key of this Redis. It has limits, so that its requests are counted there."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert keys.main(["new", "test", "--per-second", "100000", "--redis", redis]) == 0
    return {"x-api-key": printed.getvalue().split()[-1]}


def _fail(gateway: StartedGateway, key: dict[str, str]) -> None:
    """A request that is out of time, one for a model that is not there, and one without a key."""
    body = json.dumps({"instances": distinct_images(1, seed=11).tolist()}).encode()
    for model, headers, status in (
        (MODEL, {"x-request-timeout-ms": "0.001", **key}, 504),
        ("nobody", key, 404),
        (MODEL, {}, 401),
    ):
        url = f"http://{gateway.http}/v1/models/{model}:predict"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10)
        with caught.value as refused:
            assert refused.code == status


RULES_RECORDED = [rule["record"] for rule in RULES if "record" in rule]
PANELS = [(panel.title, query) for row in ROWS for panel in row.panels for query in panel.queries]


@pytest.mark.parametrize(("title", "query"), PANELS, ids=[f"{title}: {q.legend}" for title, q in PANELS])
def test_every_query_of_the_dashboard_has_data(prometheus: Api, title: str, query: Query) -> None:
    expr = query.expr.replace("$__rate_interval", "1m").replace("$model", ".*")
    assert "$" not in expr
    series = prometheus.query(expr)
    assert series, (title, expr)
    labels = re.findall(r"\{\{(\w+)\}\}", query.legend)
    for one in series:
        assert [label for label in labels if label not in one["metric"]] == []


@pytest.mark.parametrize("record", RULES_RECORDED)
def test_every_recorded_rule_has_data(prometheus: Api, record: str) -> None:
    assert prometheus.query(record)


def test_every_rule_is_evaluated_without_an_error(prometheus: Api) -> None:
    groups = prometheus.get("/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert {
        (rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"
    } == set()


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_every_alert_asks_for_metrics_that_there_are(prometheus: Api, rule: dict[str, str]) -> None:
    selectors = {name + matchers for name, matchers in SELECTOR.findall(rule["expr"])}
    assert selectors
    for selector in selectors:
        assert prometheus.query(selector), selector


def test_no_metric_of_the_gateway_is_forgotten(prometheus: Api) -> None:
    names = prometheus.get("/api/v1/label/__name__/values")["data"]
    drawn = " ".join(query.expr for _, query in PANELS) + str(RULES)
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names if name.startswith("gateway_")}
    assert {name for name in ours if name not in drawn} == set()


def test_the_folder_of_the_rules_is_the_one_that_containers_mount() -> None:
    assert all((PROMETHEUS / Path(name)).exists() for name in ("rules.yml", "slo_rules.yml", "alerts.yml"))
