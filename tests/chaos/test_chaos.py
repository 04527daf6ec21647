"""Faults under load: no client request fails while another engine of the pool is well.

`make test` runs it short. `make chaos` gives every fault 10,000 requests. Both write the
table, build/chaos.md.
"""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.chaos import lossy
from tests.chaos.faults import FAULTS, GATEWAY_FAULTS, PACKET_LOSS, Fault, Victim
from tests.chaos.record import Row, table
from tests.chaos.steady import Sample, Steady
from tests.serving import (
    MODEL,
    ROOT,
    StartedGateway,
    running_gateway,
    running_redis,
    running_tfserving,
    running_torchserve,
    running_triton,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

IS_LONG = os.environ.get("CHAOS") == "long"
RATE = 250.0 if IS_LONG else 150.0
BEFORE_SECONDS, DURING_SECONDS, AFTER_SECONDS = (8.0, 16.0, 17.0) if IS_LONG else (1.5, 3.0, 1.5)
HEAL_SECONDS = 60.0
DEADLINE_SECONDS = 10.0
LATE_SECONDS = 0.5
"""An answer may be this late in a test; what it really is stands in the table."""

IS_LOSSY = lossy.is_allowed()
if not IS_LOSSY:
    sys.stderr.write("SKIPPED: packet loss: this machine lets us make no network namespace\n")

LOG_LINES = 8
"""Of each log, when an endpoint does not come back."""

ENGINE_MODELS = (MODEL, f"{MODEL}-pruned")
ENDPOINTS = 4 if IS_LOSSY else 3
SEEDS = itertools.count(100)


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and what came of it so far."""

    gateway: StartedGateway
    victims: Mapping[str, Victim]
    rows: list[Row]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("chaos")
    with ExitStack() as running:
        torchserve = running.enter_context(running_torchserve(folder / "torchserve", ENGINE_MODELS))
        triton = running.enter_context(running_triton(folder / "triton", ENGINE_MODELS))
        tfserving = running.enter_context(running_tfserving(folder / "tfserving"))
        redis, port = running.enter_context(running_redis(folder / "redis"))
        engines = {"torchserve": torchserve, "triton": triton, "tfserving": tfserving}
        if IS_LOSSY:
            running.enter_context(lossy.namespace())
            far = running_triton(folder / "far", ENGINE_MODELS, host=lossy.ADDRESS, within=lossy.WITHIN)
            engines["far"] = running.enter_context(far)
        victims = {name: Victim(engine.running) for name, engine in engines.items()}
        victims["redis"] = Victim(redis)
        for victim in victims.values():
            running.callback(victim.stop)
        settings = {
            "endpoints": {name: engine.endpoint for name, engine in engines.items()},
            "cache": {"memory_bytes": 0, "redis": {"url": f"redis://127.0.0.1:{port}/0"}},
            "server": {"processes": 2},
            "rollouts": [{"model": MODEL, "canary_variant": "pruned", "weight": 0.0}],
        }
        gateway = running.enter_context(running_gateway(folder / "gateway", settings))
        victims["gateway"] = Victim(gateway.running, gateway.admin)
        rows: list[Row] = []
        yield Stack(gateway, victims, rows)
        (ROOT / "build").mkdir(exist_ok=True)
        (ROOT / "build" / "chaos.md").write_text(table(rows))


POSSIBLE = [*FAULTS, *GATEWAY_FAULTS, *([PACKET_LOSS] if IS_LOSSY else [])]


@pytest.mark.parametrize("fault", POSSIBLE, ids=[fault.name for fault in POSSIBLE])
async def test_no_request_fails(stack: Stack, fault: Fault) -> None:
    samples, row, began = await _under_load(stack, fault)
    stack.rows.append(row)
    lost_until = began + fault.loses_seconds if fault.loses_seconds else 0.0
    assert [sample for sample in samples if sample.failed and sample.sent >= lost_until] == []
    assert row.longest_seconds < DEADLINE_SECONDS + LATE_SECONDS
    await _until_all_take_traffic(stack, fault)


async def _under_load(stack: Stack, fault: Fault) -> tuple[list[Sample], Row, float]:
    seconds = BEFORE_SECONDS + DURING_SECONDS + AFTER_SECONDS
    victim = stack.victims[fault.victim]
    load = Steady(stack.gateway.http, stack.gateway.grpc, RATE, longest_seconds=seconds + 10)
    load.start(next(SEEDS))
    try:
        await asyncio.sleep(BEFORE_SECONDS)
        began = load.now
        try:
            await fault.hurt(victim)
            await asyncio.sleep(DURING_SECONDS)
        finally:
            await fault.mend(victim)
        ended = load.now
        await asyncio.sleep(AFTER_SECONDS)
    finally:
        samples = await load.stop()
    return samples, Row.of(fault.name, samples, began=began, ended=ended), began


def _availability(gateway: StartedGateway) -> list[str]:
    name = "gateway_endpoint_available_ratio"
    return [line for line in gateway.metrics().splitlines() if line.startswith(name) and "fp32" in line]


async def _until_all_take_traffic(stack: Stack, fault: Fault) -> None:
    gateway, give_up = stack.gateway, time.monotonic() + HEAL_SECONDS
    victim = stack.victims[fault.victim]
    while victim.has_ended or gateway.metric("gateway_endpoint_available_ratio", variant="fp32") < ENDPOINTS:
        if fault.may_end and victim.has_ended:
            await victim.start_again()
        assert time.monotonic() < give_up, f"not all came back:\n{_why(stack)}"
        await asyncio.sleep(0.2)


def _why(stack: Stack) -> str:
    """What the gateway says of its endpoints, and the end of every log."""
    said = _availability(stack.gateway)
    for victim in stack.victims.values():
        launch = victim.running.launch
        said += [f"--- {launch.name}", *launch.log.read_text(errors="replace").splitlines()[-LOG_LINES:]]
    return "\n".join(said)
