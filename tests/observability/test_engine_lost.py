"""An engine is killed: the alert fires in a real Prometheus and Alertmanager, somebody is told, it clears."""

import asyncio
from pathlib import Path

import pytest

from tests.load import distinct_images, drive
from tests.observability.monitoring import Api, chat, running_alertmanager, running_prometheus, until
from tests.serving import EMBEDDED, MODEL, running_gateway, running_triton

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

LOST = "InferwayEngineLost"
FIRES_SECONDS = 90.0
"""30 seconds by the rule, after the readiness check, a scrape, an evaluation and the group's wait."""


def lost(alertmanager: Api) -> set[str]:
    """The engines that are lost."""
    return {labels["backend"] for labels in alertmanager.alerts() if labels["alertname"] == LOST}


def test_a_killed_engine_raises_an_alert_that_clears_when_it_is_back(tmp_path: Path) -> None:
    images = distinct_images(300)
    with (
        chat() as (webhook, told),
        running_alertmanager(tmp_path / "alertmanager", webhook) as alertmanager,
        running_triton(tmp_path / "first") as triton,
    ):
        endpoints = {"triton": triton.endpoint, "embedded": EMBEDDED}
        # Triton holds this variant alone here: of the others it would be lost all the time.
        pools = [{"model": MODEL, "variant": "fp32", "endpoints": list(endpoints)}]
        settings = {"endpoints": endpoints, "pools": pools}
        with (
            running_gateway(tmp_path / "gateway", settings) as gateway,
            running_prometheus(tmp_path / "prometheus", gateway.admin, [alertmanager.address]) as prometheus,
        ):
            seen = 'gateway_endpoint_available_ratio{backend="triton"} == 1'
            until(lambda: bool(prometheus.query(seen)), "triton was never seen to be available", 60.0)
            assert asyncio.run(drive(gateway.http, images[:100], connections=4)).failed == {}
            assert alertmanager.alerts() == []

            triton.running.kill()
            assert asyncio.run(drive(gateway.http, images[100:200], connections=4)).failed == {}
            until(lambda: lost(alertmanager) == {"triton"}, "the alert did not fire", FIRES_SECONDS)
            until(lambda: f"FIRING: {LOST} (ticket)" in told, "nobody was told", 20.0)

            port = int(str(triton.endpoint["address"]).rpartition(":")[2])
            with running_triton(tmp_path / "second", grpc_port=port):
                until(lambda: lost(alertmanager) == set(), "the alert did not clear", FIRES_SECONDS)
                until(lambda: f"RESOLVED: {LOST} (ticket)" in told, "nobody was told that it is over", 20.0)
                assert asyncio.run(drive(gateway.http, images[200:], connections=4)).failed == {}
