"""Endpoints that come and go behind a file under load, and behind a name, over TLS too: no request fails."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from gateway.app import build
from gateway.balancing.warm_up import WARM_UP_REQUESTS
from gateway.cli.admin_client import AdminClient
from gateway.loading import load_settings
from tests.certificates import Authority
from tests.integration.discovery_rig import POOLS, a_gateway, an_engine, until, write
from tests.load import distinct_images, drive
from tests.serving import MODEL, ROOT


async def test_servers_come_and_go_in_a_file_under_load_and_no_request_fails(tmp_path: Path) -> None:
    path = tmp_path / "engines.yaml"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(an_engine())
        second = await stack.enter_async_context(an_engine())
        write(path, first)
        gateway = await stack.enter_async_context(a_gateway(tmp_path / "gateway", {"file": str(path)}))
        name = f"found/{first.address}"

        async def come_and_go() -> None:
            write(path, first, second)
            await until(lambda: second.calls > 100)  # more than the warm-up
            write(path, second)
            await until(lambda: f'endpoint="{name}"' not in gateway.metrics())
            # Not once nothing is in flight here: what was sent before may still be on its way.
            await until(lambda: not first.is_connected)
            calls, others = first.calls, second.calls
            await until(lambda: second.calls > others + 200)
            assert first.calls == calls
            path.write_text("- half a fi")
            lookups = "gateway_discovery_lookups_total"
            await until(lambda: gateway.metric(lookups, endpoint="found", result="failed") >= 2)
            path.write_text("")
            await until(lambda: gateway.metric(lookups, endpoint="found", result="empty") >= 2)
            write(path, first, second)
            await until(lambda: first.calls > calls + 100)

        images = await asyncio.to_thread(distinct_images, 6000)  # the engines are in this loop
        outcome = await drive(gateway.http, images, connections=16, events={100: come_and_go})
        assert outcome.failed == {}
        assert gateway.metric("gateway_retries_total") == 0
        assert gateway.metric("gateway_attempt_duration_seconds_count", outcome="ok") == 6000


async def test_a_name_leads_to_an_endpoint_for_each_of_its_addresses(tmp_path: Path) -> None:
    async with an_engine() as engine:
        port = engine.address.rpartition(":")[2]
        async with a_gateway(tmp_path, {"dns": f"localhost:{port}"}) as gateway:
            outcome = await drive(gateway.http, distinct_images(50), connections=4)
            assert outcome.failed == {}
            available = "gateway_endpoint_available_ratio"
            assert gateway.metric(available, endpoint=f"found/127.0.0.1:{port}") == 1
            addresses = {one[4][0] for one in socket.getaddrinfo("localhost", None)}
            assert gateway.metrics().count(f"\n{available}{{") == len(addresses)


@pytest.mark.parametrize(("made_out_to", "is_trusted"), [("localhost", True), ("127.0.0.1", False)])
async def test_a_certificate_is_held_against_the_name_that_was_looked_up(
    tmp_path: Path, made_out_to: str, is_trusted: bool
) -> None:
    files = Authority(tmp_path).issue("engine", made_out_to)
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    async with an_engine(grpc.ssl_server_credentials([pair])) as engine:
        port = engine.address.rpartition(":")[2]
        entry = {"backend": "triton", "dns": f"localhost:{port}", "tls": {"ca": str(files.ca)}}
        settings = {"models": [str(ROOT / "models" / MODEL)], "endpoints": {"found": entry}, "pools": POOLS}
        path = tmp_path / "inferway.yaml"
        path.write_text(yaml.safe_dump(settings))
        async with build(load_settings(path, {}), tmp_path) as gateway:
            if is_trusted:
                await until(lambda: gateway.serving.is_ready(MODEL, "1"))
            assert gateway.serving.is_ready(MODEL, "1") is is_trusted
            assert (engine.calls > 0) is is_trusted


async def test_what_was_drained_takes_no_request_when_it_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "engines.yaml"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(an_engine())
        second = await stack.enter_async_context(an_engine())
        write(path, first, second)
        gateway = await stack.enter_async_context(a_gateway(tmp_path / "gateway", {"file": str(path)}))
        admin, name = AdminClient(f"http://{gateway.admin}"), f"found/{first.address}"

        def states() -> dict[str, str]:
            return {row["endpoint"]: row["state"] for row in admin.get("pools")["endpoints"]}

        await until(lambda: set(states().values()) == {"ready"})
        await asyncio.to_thread(admin.post, "endpoints", name, "drain")
        write(path, second)
        await until(lambda: name not in states() and not first.is_connected)
        calls = first.calls
        write(path, first, second)
        await until(lambda: first.calls == calls + WARM_UP_REQUESTS)
        assert (await asyncio.to_thread(states))[name] == "draining"
        draining = "gateway_endpoint_draining_ratio"
        assert await asyncio.to_thread(gateway.metric, draining, endpoint=name) == 1
        assert await asyncio.to_thread(gateway.metric, draining) == 1
        outcome = await drive(gateway.http, await asyncio.to_thread(distinct_images, 200), connections=4)
        assert outcome.failed == {}
        assert first.calls == calls + WARM_UP_REQUESTS
        load = "gateway_endpoint_load"
        assert await asyncio.to_thread(gateway.metric, load, endpoint=f"found/{second.address}") > 0
        await asyncio.to_thread(admin.post, "endpoints", name, "undrain")
        await until(lambda: states()[name] == "ready")


async def test_a_reload_under_load_warms_up_nothing_that_was_found_before_and_no_request_fails(
    tmp_path: Path,
) -> None:
    path = tmp_path / "engines.yaml"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(an_engine())
        second = await stack.enter_async_context(an_engine())
        write(path, first, second)
        # Hedges that nobody waits for make the health check ask for an inference of its own now and then.
        alone: dict[str, Any] = {"hedging": {"enabled": False}}
        gateway = await stack.enter_async_context(
            a_gateway(tmp_path / "gateway", {"file": str(path)}, **alone)
        )
        available = "gateway_endpoint_available_ratio"
        await until(lambda: gateway.metric(available) == 2)
        asked = first.calls + second.calls

        async def reload() -> None:
            await asyncio.to_thread(AdminClient(f"http://{gateway.admin}").post, "reload")

        images = await asyncio.to_thread(distinct_images, 1000)
        outcome = await drive(gateway.http, images, connections=8, events={300: reload})
        assert outcome.failed == {}
        assert await asyncio.to_thread(gateway.metric, "gateway_reloads_total", result="ok") == 1
        assert await asyncio.to_thread(gateway.metric, available) == 2
        attempts = await asyncio.to_thread(gateway.metric, "gateway_attempt_duration_seconds_count")
        assert first.calls + second.calls == asked + attempts
