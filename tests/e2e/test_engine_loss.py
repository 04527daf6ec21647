"""Lose a whole engine and no client request fails: engines die by SIGKILL with requests in flight."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from tests.load import Outcome, distinct_images, drive
from tests.serving import (
    Engine,
    StartedGateway,
    running_gateway,
    running_tfserving,
    running_torchserve,
    running_triton,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

CONNECTIONS = 32
SMALLEST_SHARE = 0.1
"""Of the traffic, for every engine, before any is killed (docs/decisions/0009-load.md has what is usual)."""


def _kill(pid: int) -> Callable[[], Awaitable[None]]:
    async def kill() -> None:
        os.kill(pid, signal.SIGKILL)

    return kill


def _kill_worker(torchserve: Engine) -> Callable[[], Awaitable[None]]:
    async def kill() -> None:
        for worker in psutil.Process(torchserve.running.pid).children():
            worker.kill()

    return kill


def test_engines_killed_one_after_another_cost_no_request(tmp_path: Path) -> None:
    images = distinct_images(13_000)
    with (
        running_torchserve(tmp_path / "torchserve") as torchserve,
        running_triton(tmp_path / "triton") as triton,
        running_tfserving(tmp_path / "tfserving") as tfserving,
    ):
        endpoints = {
            "torchserve": torchserve.endpoint,
            "triton": triton.endpoint,
            "tfserving": tfserving.endpoint,
        }
        with running_gateway(tmp_path / "gateway", {"endpoints": endpoints}) as gateway:
            served = asyncio.run(drive(gateway.http, images[:3000], connections=CONNECTIONS))
            _check_all_served(served, gateway)
            events = {
                1000: _kill_worker(torchserve),
                3500: _kill(torchserve.running.pid),
                6500: _kill(triton.running.pid),
            }
            killed = asyncio.run(drive(gateway.http, images[3000:], connections=CONNECTIONS, events=events))
            ejections = gateway.metric("gateway_endpoint_ejections_total")
            retries = gateway.metric("gateway_retries_total", result="sent")
    assert killed.failed == {}
    assert max(killed.seconds) < 10.0
    assert ejections > 0
    assert retries > 0


def _check_all_served(outcome: Outcome, gateway: StartedGateway) -> None:
    assert outcome.failed == {}
    total = sum(outcome.backends.values())
    for backend in ("torchserve", "triton", "tfserving"):
        assert outcome.backends.get(backend, 0) >= total * SMALLEST_SHARE, outcome.backends
    hedges = gateway.metric("gateway_hedges_total", result="won") + gateway.metric(
        "gateway_hedges_total", result="lost"
    )
    sent = gateway.metric("gateway_batch_requests_sum")
    calls = sum(
        gateway.metric("gateway_attempt_duration_seconds_count", backend=backend, outcome="ok")
        for backend in outcome.backends
    )
    assert total <= sent <= total + hedges  # both attempts of a hedged request may be answered
    assert calls < total  # some were joined
