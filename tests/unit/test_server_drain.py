"""A gateway that is told to stop says so first, and goes on answering until its load balancer has seen it."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc

from gateway import server
from gateway.app import build
from gateway.settings import ServerSettings, Settings
from services.launch import free_port

SOON = 10.0
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
READY = LIVE.replace(b"live", b"ready")


async def _status(port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), SOON)
    writer.close()
    return int(line.split()[1])


async def _until_it_answers(port: int) -> None:
    async with asyncio.timeout(SOON):
        while True:
            try:
                assert await _status(port, READY) == 200
            except OSError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_during_the_delay_it_answers_and_says_that_it_is_not_ready() -> None:
    settings = ServerSettings(
        http_port=free_port(), grpc_port=free_port(), admin_port=free_port(), drain_delay_seconds=0.5
    )
    serving = asyncio.create_task(server.serve(build(Settings(), Path()), settings))
    await _until_it_answers(settings.http_port)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)
    assert await _status(settings.http_port, READY) == 400  # as Triton says it
    assert await _status(settings.admin_port, LIVE.replace(b"/v2/health/live", b"/livez")) == 200
    assert await _status(settings.http_port, LIVE) == 200
    await asyncio.wait_for(serving, SOON)


async def test_what_has_no_end_does_not_hold_a_gateway_that_stops() -> None:
    settings = ServerSettings(
        http_port=free_port(), grpc_port=free_port(), admin_port=free_port(), drain_seconds=60.0
    )
    serving = asyncio.create_task(server.serve(build(Settings(), Path()), settings))
    await _until_it_answers(settings.http_port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}") as channel:
        stream: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        idle, watching = stream(), watch(b"")
        await watching.read()
        await idle.wait_for_connection()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, SOON)
