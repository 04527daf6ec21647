"""What the admin API says, as tables for people."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Sequence[str]


def table(head: Row, rows: Iterable[Row]) -> str:
    """Columns as wide as their longest cell."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def pools(endpoints: Sequence[Mapping[str, Any]]) -> str:
    """One line for each endpoint of each pool, those of shadows too.

    What processes see differently is counted. Below, a line for each reason why an endpoint cannot serve its
    model.
    """
    together: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in endpoints:
        key = tuple(row[name] for name in ("model", "version", "variant", "endpoint", "backend"))
        together.setdefault((*key, "shadow" if row.get("shadow") else "clients"), []).append(row)
    rows = []
    for key, seen in together.items():
        in_flight = sum(row["in_flight"] for row in seen)
        slowest = max(row["latency_seconds"] for row in seen)
        rows.append((*key, _state(seen), str(in_flight), f"{1000 * slowest:.1f}"))
    head = (
        "MODEL",
        "VERSION",
        "VARIANT",
        "ENDPOINT",
        "BACKEND",
        "ASKED BY",
        "STATE",
        "IN FLIGHT",
        "LATENCY MS",
    )
    problems = {line for row in endpoints for line in row.get("problem", "").splitlines()}
    return "\n".join([table(head, rows), *sorted(problems)])


def processes(states: Sequence[Mapping[str, Any]]) -> str:
    """One line for each process."""
    head = ("PROCESS", "PID", "STATE", "RESTARTS", "UP S")
    rows = [
        (str(s["process"]), str(s["pid"] or "-"), s["state"], str(s["restarts"]), f"{s['up_seconds']:.0f}")
        for s in states
    ]
    return table(head, rows)


def canaries(rollouts: Sequence[Mapping[str, Any]]) -> str:
    """One line for each canary, its requests in all processes together; empty where there is none."""
    together: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for process in rollouts:
        for canary in process["canaries"]:
            together.setdefault((canary["model"], canary["label"] or "-"), []).append(canary)
    rows = []
    for whose, seen in together.items():
        sides = [f"{seen[0][side]['version']}/{seen[0][side]['variant']}" for side in ("stable", "canary")]
        weights = sorted({f"{canary['weight']:g}" for canary in seen})
        requests = sum(canary["canary"]["requests"] for canary in seen)
        errors = sum(canary["canary"]["errors"] for canary in seen)
        why = next((canary["rolled_back"] for canary in seen if canary["rolled_back"]), "-")
        rows.append((*whose, *sides, ", ".join(weights), str(requests), str(errors), why))
    return (
        table(("MODEL", "LABEL", "STABLE", "CANARY", "WEIGHT", "REQUESTS", "ERRORS", "TAKEN BACK"), rows)
        if rows
        else ""
    )


def labels(rollouts: Sequence[Mapping[str, Any]]) -> str:
    """One line for each label; empty where there is none."""
    rows = {
        (model, label, version)
        for process in rollouts
        for model, found in process["labels"].items()
        for label, version in found.items()
    }
    return table(("MODEL", "LABEL", "VERSION"), sorted(rows)) if rows else ""


def overrides(changes: Sequence[Mapping[str, Any]]) -> str:
    """One line for each change."""
    if not changes:
        return "none: everything is as the configuration says"
    head = ("WHAT", "NAME", "LABEL", "VALUE", "PROCESSES")
    return table(
        head,
        [
            (
                c["action"],
                c["name"],
                c.get("label", "-"),
                str(c.get("value", "-")),
                ",".join(map(str, c["processes"])),
            )
            for c in changes
        ],
    )


def _state(seen: Sequence[Mapping[str, Any]]) -> str:
    """`ready`, or `ready 3, ejected 1` where processes see it differently."""
    counts = Counter(str(row["state"]) for row in seen)
    if len(counts) == 1:
        return next(iter(counts)) + _until(seen)
    return ", ".join(f"{state} {count}" for state, count in counts.items())


def _until(seen: Sequence[Mapping[str, Any]]) -> str:
    left = max(row["ejected_seconds"] for row in seen)
    return f" for {left:.1f} s" if seen[0]["state"] == "ejected" else ""
