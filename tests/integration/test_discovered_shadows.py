"""A shadow asks endpoints that come and go behind a file, and behind a name; its clients see none of it."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.integration.discovery_rig import a_gateway, an_engine, until, write
from tests.load import distinct_images, drive
from tests.serving import MODEL, StartedGateway

SETTINGS: dict[str, Any] = {
    "pools": [{"model": MODEL, "variant": "fp32", "endpoints": ["still"]}],
    "shadows": [
        {
            "model": MODEL,
            "to": {"endpoints": ["found"]},
            "ratio": 1.0,
            "timeout_seconds": 30.0,
            "max_queued": 5000,
        }
    ],
}
ASKED = "gateway_shadow_requests_total"


async def _asked(gateway: StartedGateway, times: int) -> None:
    await until(lambda: gateway.metric(ASKED) == times)


async def _drive_until_equal(gateway: StartedGateway) -> int:
    """Ask until the shadow's endpoint is ready and its answer is the client's; how often was asked."""
    images = await asyncio.to_thread(distinct_images, 500, 8)
    for number in range(len(images)):
        outcome = await drive(gateway.http, images[number : number + 1], connections=1)
        assert outcome.failed == {}
        await _asked(gateway, number + 1)
        if await asyncio.to_thread(gateway.metric, ASKED, outcome="equal"):
            return number + 1
    raise AssertionError("the shadow never answered")


async def test_a_shadow_asks_what_its_file_has_while_servers_come_and_go_and_no_client_sees_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "engines.yaml"
    async with AsyncExitStack() as stack:
        still, first, second = [await stack.enter_async_context(an_engine()) for _ in range(3)]
        write(path, first)
        gateway = await stack.enter_async_context(
            a_gateway(tmp_path / "gateway", {"file": str(path)}, still, **SETTINGS)
        )
        before = await _drive_until_equal(gateway)
        failed_before = before - await asyncio.to_thread(gateway.metric, ASKED, outcome="equal")

        async def come_and_go() -> None:
            write(path, first, second)
            await until(lambda: second.calls > 100)  # more than the warm-up
            write(path, second)
            await until(lambda: not first.is_connected)
            calls, others = first.calls, second.calls
            await until(lambda: second.calls > others + 100)
            assert first.calls == calls

        images = await asyncio.to_thread(distinct_images, 2000)
        outcome = await drive(gateway.http, images, connections=8, events={100: come_and_go})
        assert outcome.failed == {}
        await _asked(gateway, before + 2000)
        assert gateway.metric(ASKED, outcome="equal") == before + 2000 - failed_before
        assert gateway.metric("gateway_shadow_label_agreement_total", result="other") == 0
        assert gateway.metric("gateway_shadow_dropped_total") == 0
        assert gateway.metric("gateway_attempt_duration_seconds_count", outcome="ok") == before + 2000
        assert 'endpoint="found/' not in gateway.metrics()


async def test_a_shadow_asks_the_addresses_of_a_name(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        still, found = [await stack.enter_async_context(an_engine()) for _ in range(2)]
        entry = {"dns": f"localhost:{found.address.rpartition(':')[2]}"}
        gateway = await stack.enter_async_context(a_gateway(tmp_path, entry, still, **SETTINGS))
        asked = await _drive_until_equal(gateway)
        outcome = await drive(gateway.http, await asyncio.to_thread(distinct_images, 50), connections=4)
        assert outcome.failed == {}
        await _asked(gateway, asked + 50)
        equal = gateway.metric(ASKED, outcome="equal", target="1-fp32@found")
        assert equal == 51
        assert gateway.metric("gateway_endpoint_available_ratio", endpoint="still") == 1
