"""Triton's model dies while its server says ready: no request fails, and it comes back by itself."""

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.load import distinct_images, drive
from tests.serving import Engine, running_gateway, running_triton

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

CONNECTIONS = 4
GIVE_UP_SECONDS = 60.0
"""Many times what it takes: a failed request, a check, a load and the warm-up."""


def test_a_killed_stub_costs_no_request_and_triton_takes_traffic_again(
    tfserving: Engine, tmp_path: Path
) -> None:
    images = distinct_images(20_000)
    with running_triton(tmp_path / "triton") as triton:
        server = psutil.Process(triton.running.pid)
        stubs = server.children()

        async def kill() -> None:
            for stub in stubs:
                os.kill(stub.pid, signal.SIGKILL)

        settings = {"endpoints": {"triton": triton.endpoint, "tfserving": tfserving.endpoint}}
        with running_gateway(tmp_path / "gateway", settings) as gateway:
            first, *parts = (
                images[:1500],
                *(images[start : start + 250] for start in range(1500, 20_000, 250)),
            )
            outcomes = [asyncio.run(drive(gateway.http, first, connections=CONNECTIONS, events={500: kill}))]
            assert outcomes[0].backends["triton"] > 0
            give_up = time.monotonic() + GIVE_UP_SECONDS
            for part in parts:
                outcomes.append(asyncio.run(drive(gateway.http, part, connections=CONNECTIONS)))
                healed = gateway.metric("gateway_endpoint_heals_total", result="healed")
                if healed and outcomes[-1].backends.get("triton", 0) > 0:
                    break
                assert time.monotonic() < give_up, "Triton takes no traffic"
            else:
                pytest.fail("Triton takes no traffic")
            assert gateway.metric("gateway_endpoint_available_ratio", endpoint="triton") == 1
        assert server.is_running()
    assert [outcome.failed for outcome in outcomes if outcome.failed] == []
    assert healed == 1
