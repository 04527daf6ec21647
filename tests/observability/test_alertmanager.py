"""Who is told of what: the real Alertmanager with the project's own configuration."""

import json
import urllib.request
from pathlib import Path

from tests.observability.monitoring import Api, chat, running_alertmanager, until

POOL = {"model": "m", "version": "1", "variant": "fp32", "backend": "triton"}


def post(alertmanager: Api, *alerts: dict[str, str]) -> None:
    """Raise alerts as Prometheus does."""
    body = json.dumps([{"labels": labels, "annotations": {}} for labels in alerts]).encode()
    url = f"http://{alertmanager.address}/api/v2/alerts"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - http
        assert reply.status == 200


def named(alert: str, **labels: str) -> dict[str, str]:
    return {"alertname": f"Inferway{alert}", "severity": "ticket", **labels}


def test_what_follows_from_something_worse_is_not_told(tmp_path: Path) -> None:
    other = {**POOL, "variant": "int8"}
    with chat() as (webhook, told), running_alertmanager(tmp_path / "alertmanager", webhook) as alertmanager:
        post(
            alertmanager,
            named("EngineLost", **POOL),
            named("ModelDead", endpoint="triton-2", **POOL, state="again"),
            named("ErrorBudgetBurnFast", model="m"),
            named("LatencyBudgetBurnFast", model="m"),
            named("GatewayDown", job="gateway", state="all"),
        )
        until(lambda: len(alertmanager.alerts()) == 5, "the worse alerts did not arrive", 20.0)
        post(
            alertmanager,
            named("EndpointEjected", endpoint="triton-1", **POOL),
            named("EndpointEjected", endpoint="triton-2", **POOL),
            named("EndpointEjected", endpoint="triton-1", **other),
            named("ErrorBudgetBurnSlow", model="m"),
            named("ErrorBudgetBurnSlow", model="other"),
            named("LatencyBudgetBurnSlow", model="m"),
            named("GatewayDown", job="gateway", state="one", instance="a:8082"),
        )
        until(lambda: len(alertmanager.alerts()) >= 7, "the others did not arrive", 20.0)
        until(lambda: any("EndpointEjected" in title for title in told), "nobody was told", 20.0)
        active = [labels for labels in alertmanager.alerts() if labels["alertname"].endswith("Ejected")]
        assert [labels["variant"] for labels in active] == ["int8"]
        down = [labels for labels in alertmanager.alerts() if labels["alertname"].endswith("Down")]
        assert [labels["state"] for labels in down] == ["all"]
        slow = [labels for labels in alertmanager.alerts() if labels["alertname"].endswith("Slow")]
        assert [labels["model"] for labels in slow] == ["other"]


def test_all_pools_of_a_lost_engine_are_one_message(tmp_path: Path) -> None:
    with chat() as (webhook, told), running_alertmanager(tmp_path / "alertmanager", webhook) as alertmanager:
        post(alertmanager, *(named("EngineLost", **{**POOL, "model": f"m{number}"}) for number in range(20)))
        until(lambda: bool(told), "nobody was told", 20.0)
        assert told == ["FIRING: InferwayEngineLost (ticket)"]
