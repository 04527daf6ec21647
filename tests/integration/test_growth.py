"""The harness of docs/growth.md: what it calls a miss reaches an engine, and what it calls a hit does not."""

from pathlib import Path

import pytest

from loadtests.growth.__main__ import main
from loadtests.growth.curves import HIT, MISS, Load
from loadtests.growth.rig import models, rig
from tests.serving import StartedGateway

REQUESTS = 40


def attempts(gateway: StartedGateway) -> float:
    return gateway.metric("gateway_attempt_duration_seconds_count", outcome="ok")


def test_misses_reach_an_engine_and_hits_only_once_for_each_model(tmp_path: Path) -> None:
    served = models(3)
    with rig(tmp_path, 2) as started, started.gateway(served, endpoints=2) as gateway:
        for _ in range(2):
            Load(gateway, MISS, served, REQUESTS, connections=4).round()
        assert attempts(gateway) == 2 * REQUESTS
        for _ in range(2):
            Load(gateway, HIT, served, REQUESTS, connections=4).round()
        assert attempts(gateway) == 2 * REQUESTS + len(served)


def test_a_curve_is_measured_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "connections"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["connections 1, hit", "connections 10, hit"]
