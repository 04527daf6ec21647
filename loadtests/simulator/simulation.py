"""Runs one scenario and says what came of it."""

from typing import Any

from loadtests.simulator.fleet import Fleet
from loadtests.simulator.records import spread
from loadtests.simulator.scenarios import Scenario


def simulate(scenario: Scenario) -> dict[str, Any]:
    """Numbers only of the scenario and its seed: JSON."""
    rules = scenario.rules
    fleet = Fleet(rules)
    disturbed = set(scenario.disturb(fleet))
    fleet.run()
    records = fleet.records
    equal = [server for number, server in enumerate(fleet.servers) if number not in disturbed]
    others = sum(fleet.servers[number].served for number in disturbed)
    by_second = {
        name: getattr(records, name)[: int(rules.horizon_seconds)]
        for name in ("requests", "attempts", "answered", "failed")
    }
    totals = records.totals()
    return {
        "scenario": scenario.name,
        "policy": rules.policy,
        "has_budget": rules.has_budget,
        "gateways": rules.gateways,
        "endpoints": rules.endpoints,
        "seconds": rules.horizon_seconds,
        **totals,
        "failed_ratio": round(totals["failed"] / totals["requests"], 6),
        "attempts_per_request": round(totals["attempts"] / totals["requests"], 4),
        "disturbed_share": round(others / sum(server.served for server in fleet.servers), 6),
        **records.latency(),
        "spread": spread(equal, rules.horizon_seconds),
        "tail": records.tail(),
        "by_second": by_second,
    }
