"""docker-compose.yml: what is told to end is killed only after it has drained."""

import re
from typing import Any

import pytest
import yaml

from gateway.loading import load_contracts, load_settings
from gateway.settings import Settings
from gateway.supervisor.worker import GRACE_SECONDS
from tests.deploy.rendering import ROOT

CONFIGURATION = ROOT / "deploy" / "compose" / "inferway.yaml"
TRITON_EXIT_SECONDS = 30
"""How long Triton waits for what is in flight: its default of `--exit-timeout-secs`."""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(CONFIGURATION, {})


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def grace_seconds(service: dict[str, Any]) -> float:
    return float(service["stop_grace_period"].removesuffix("s"))


def slowest_seconds(settings: Settings) -> float:
    """How long a request may take whose caller sets no deadline."""
    return max(contract.timeout_seconds for contract in load_contracts(settings, ROOT).values())


def test_the_gateway_ends_all_it_has_before_it_is_killed(
    settings: Settings, services: dict[str, Any]
) -> None:
    server = settings.server
    assert server.drain_seconds >= slowest_seconds(settings)
    needed = server.drain_delay_seconds + server.drain_seconds + GRACE_SECONDS
    assert needed < grace_seconds(services["gateway"])


def test_the_edge_turns_away_before_the_gateway_closes(settings: Settings) -> None:
    text = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    found = re.search(r"default-server check inter (\d+)s fastinter (\d+)ms fall (\d+)", text)
    assert found
    inter, fastinter, fall = map(int, found.groups())
    assert inter + (fall - 1) * fastinter / 1000 < settings.server.drain_delay_seconds


def test_the_edge_ends_all_it_has_before_it_is_killed(settings: Settings, services: dict[str, Any]) -> None:
    assert grace_seconds(services["haproxy"]) > slowest_seconds(settings)


@pytest.mark.parametrize("name", ["triton-1", "triton-2"])
def test_a_triton_is_not_killed_while_it_waits(services: dict[str, Any], name: str) -> None:
    assert grace_seconds(services[name]) > TRITON_EXIT_SECONDS


def test_all_that_is_asked_outlives_what_asks_it(services: dict[str, Any]) -> None:
    # Compose ends a service before those that it depends on.
    assert "gateway" in services["haproxy"]["depends_on"]
    engines = {"torchserve", "triton-1", "triton-2", "tfserving"}
    assert engines < {*services["gateway"]["depends_on"]}
