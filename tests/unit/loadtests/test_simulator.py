"""The simulator: it loses no request, repeats itself, agrees with theory, tells policies apart."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.balancing.retry_budget import BURST_SECONDS
from gateway.traffic_settings import RetrySettings
from loadtests.simulator import __main__ as command
from loadtests.simulator.fleet import Fleet, FleetRules
from loadtests.simulator.report import STORMS, calls_a_request
from loadtests.simulator.scenarios import all_scenarios
from loadtests.simulator.server_model import ServerRules
from loadtests.simulator.simulation import simulate

SHRINK = 200
RETRY = RetrySettings()
Key = tuple[str, str, bool]


@pytest.fixture(scope="module")
def results() -> Mapping[Key, Mapping[str, Any]]:
    """Every scenario with a small fleet, by name, policy and budget."""
    scenarios = list(all_scenarios(1, SHRINK))
    return {(one.name, one.rules.policy, one.rules.has_budget): simulate(one) for one in scenarios}


def test_every_request_ends_once(results: Mapping[Key, Mapping[str, Any]]) -> None:
    for result in results.values():
        assert result["requests"] == result["answered"] + result["failed"] > 1000
        assert result["attempts"] <= RETRY.max_attempts * result["requests"]


def test_when_all_has_ended_nothing_is_left_in_flight() -> None:
    for scenario in all_scenarios(2, SHRINK):
        if scenario.title in ("flapping, p2c", "stall, p2c"):
            fleet = Fleet(scenario.rules)
            scenario.disturb(fleet)
            fleet.run()
            assert {view.in_flight for views in fleet.views.values() for view in views} == {0}


def test_one_seed_gives_the_same_numbers_again_and_another_seed_others(
    results: Mapping[Key, Mapping[str, Any]],
) -> None:
    again = {one.title: one for one in all_scenarios(1, SHRINK)}["flapping, p2c"]
    other = {one.title: one for one in all_scenarios(2, SHRINK)}["flapping, p2c"]
    assert simulate(again) == results["flapping", "p2c", True] != simulate(other)


def test_endpoints_chosen_by_chance_are_each_an_m_m_1_queue() -> None:
    """Poisson arrivals split by chance stay Poisson: times are exponential with mean s / (1 - rho)."""
    load_ratio, service_seconds = 0.7, 0.05
    rules = FleetRules(
        policy="random",
        gateways=10,
        endpoints=100,
        subset=10,
        load_ratio=load_ratio,
        horizon_seconds=60.0,
        warm_up_seconds=5.0,
        server=ServerRules(service_seconds=service_seconds, service_shape=1.0),
    )
    fleet = Fleet(rules)
    fleet.run()
    found, mean_ms = fleet.records.latency(), 1e3 * service_seconds / (1 - load_ratio)
    assert found["mean_ms"] == pytest.approx(mean_ms, rel=0.05)
    assert found["p50_ms"] == pytest.approx(mean_ms * math.log(2), rel=0.05)
    assert found["p99_ms"] == pytest.approx(mean_ms * math.log(100), rel=0.1)


@pytest.mark.parametrize("other", ["round_robin", "random"])
def test_with_slow_endpoints_p2c_keeps_the_tail_short(
    results: Mapping[Key, Mapping[str, Any]], other: str
) -> None:
    ours, theirs = (results["slow", policy, True] for policy in ("p2c", other))
    assert ours["p99_9_ms"] < 0.5 * theirs["p99_9_ms"]
    assert ours["mean_ms"] < theirs["mean_ms"]
    assert ours["disturbed_share"] < 0.5 * theirs["disturbed_share"]


@pytest.mark.parametrize("storm", list(STORMS))
def test_with_the_budget_calls_stay_below_their_share_and_the_floor(
    results: Mapping[Key, Mapping[str, Any]], storm: str
) -> None:
    result = results[storm, "p2c", True]
    floor = result["gateways"] * RETRY.budget_floor_per_second * (result["seconds"] + BURST_SECONDS)
    assert result["attempts"] <= (1 + RETRY.budget_ratio) * result["requests"] + floor
    assert _answered_at_the_end(result) > 0.95


def test_without_a_budget_errors_make_as_many_calls_as_there_may_be_attempts(
    results: Mapping[Key, Mapping[str, Any]],
) -> None:
    begin, end = (int(second) for second in STORMS["errors"])
    assert calls_a_request(results["errors", "p2c", False], begin, end) > 0.9 * RETRY.max_attempts


def test_without_a_budget_a_stall_outlives_its_cause(results: Mapping[Key, Mapping[str, Any]]) -> None:
    assert _answered_at_the_end(results["stall", "p2c", False]) < 0.5


def test_the_command_prints_both_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [one for one in all_scenarios(1, SHRINK) if one.title in ("slow, p2c", "errors, p2c")]
    monkeypatch.setattr(command, "all_scenarios", lambda _seed, _shrink: few)
    assert command.main(["--quick"]) == 0
    printed = capsys.readouterr()
    assert "| slow | `p2c` |" in printed.out
    assert "| errors | yes |" in printed.out
    assert "2/2 errors, p2c" in printed.err


def _answered_at_the_end(result: Mapping[str, Any]) -> float:
    counts = result["by_second"]
    return float(sum(counts["answered"][-5:]) / sum(counts["requests"][-5:]))
