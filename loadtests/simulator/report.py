"""The tables of docs/simulation.md, from the results."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.simulator.scenarios import ERROR_SECONDS, STALL_SECONDS

STORMS = {"errors": ERROR_SECONDS, "stall": STALL_SECONDS}
"""When they begin and end, by the scenario's name."""
LAST_SECONDS = 5

Result = Mapping[str, Any]


def policies_table(results: Sequence[Result]) -> str:
    """Latency and spread of each policy, Markdown."""
    head = (
        "scenario", "policy", "mean ms", "p50", "p99", "p99.9", "failed", "attempts a request",
        "busiest to mean", "longest queue", "share of the disturbed",
    )  # fmt: skip
    rows = [
        (
            result["scenario"],
            f"`{result['policy']}`",
            *(f"{result[name]:.0f}" for name in ("mean_ms", "p50_ms", "p99_ms", "p99_9_ms")),
            str(result["failed"]),
            f"{result['attempts_per_request']:.3f}",
            f"{result['spread']['busy_max_to_mean']:.2f}",
            str(result["spread"]["longest_queue"]),
            f"{result['disturbed_share']:.2%}",
        )
        for result in results
        if result["scenario"] not in STORMS
    ]
    return _table(head, rows)


def storms_table(results: Sequence[Result]) -> str:
    """What a storm does to the endpoints and to what is answered after it, Markdown."""
    head = (
        "storm", "budget", "calls a request: whole run", "in the storm",
        f"in the storm's last {LAST_SECONDS} s", f"answered in the run's last {LAST_SECONDS} s",
    )  # fmt: skip
    rows = []
    for result in results:
        if result["scenario"] in STORMS:
            begin, end = (int(second) for second in STORMS[result["scenario"]])
            horizon = int(result["seconds"])
            rows.append(
                (
                    result["scenario"],
                    "yes" if result["has_budget"] else "no",
                    f"{result['attempts_per_request']:.2f}",
                    f"{calls_a_request(result, begin, end):.2f}",
                    f"{calls_a_request(result, end - LAST_SECONDS, end):.2f}",
                    f"{_ratio(result, 'answered', horizon - LAST_SECONDS, horizon):.1%}",
                )
            )
    return _table(head, rows)


def calls_a_request(result: Result, begin: int, end: int) -> float:
    """Attempts in these seconds for each request that came in them."""
    return _ratio(result, "attempts", begin, end)


def _ratio(result: Result, name: str, begin: int, end: int) -> float:
    counts = result["by_second"]
    return float(sum(counts[name][begin:end]) / sum(counts["requests"][begin:end]))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
