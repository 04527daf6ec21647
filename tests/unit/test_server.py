"""The listeners of one process: they start together, and end together."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from gateway import server
from gateway.app import build
from gateway.configuration import ConfigurationError
from gateway.http_server import HttpServer
from gateway.server import Bound, address, bind
from gateway.settings import ServerSettings, Settings
from services.launch import free_port

BODY = b"{%s}" % (b" " * 200)
HEAD = b"POST /v2/repository/index HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(BODY)
SOON = 10.0
"""Seconds that nothing here should take."""


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(
        http_port=free_port(), grpc_port=free_port(), admin_port=free_port(), drain_seconds=SOON
    )


@pytest.fixture
def serve(settings: ServerSettings) -> Callable[[], asyncio.Task[None]]:
    """Starts a gateway without a model."""
    gateway = build(Settings(), Path())
    return lambda: asyncio.create_task(server.serve(gateway, settings))


@pytest_asyncio.fixture
async def serving(
    serve: Callable[[], asyncio.Task[None]], settings: ServerSettings
) -> AsyncIterator[asyncio.Task[None]]:
    task = serve()
    async with asyncio.timeout(SOON):
        while not task.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", settings.admin_port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
    yield task
    if not task.done():
        os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait([task], timeout=SOON)


@pytest.mark.parametrize("setting", ["http_port", "grpc_port", "admin_port"])
async def test_a_port_that_is_taken_is_told_with_the_setting_that_moves_it(
    serve: Callable[[], asyncio.Task[None]], settings: ServerSettings, setting: str
) -> None:
    mend = f"free it, or set INFERWAY_SERVER__{setting.upper()}"
    with (
        socket.create_server(("127.0.0.1", getattr(settings, setting))),
        pytest.raises(ConfigurationError, match=mend),
    ):
        await asyncio.wait_for(serve(), SOON)


@pytest.mark.parametrize("setting", ["http_port", "grpc_port", "admin_port"])
def test_of_two_that_have_bound_a_port_the_second_that_listens_is_told(setting: str) -> None:
    with (
        bind("127.0.0.1", 0, setting) as first,
        bind("127.0.0.1", first.getsockname()[1], setting) as second,
        bind("127.0.0.1", 0, "") as one,
        bind("127.0.0.1", 0, "") as another,
    ):
        first.listen()
        others = iter((one, another))
        sockets = {
            each: second if f"{each}_port" == setting else next(others) for each in ("http", "grpc", "admin")
        }
        bound = Bound(http=sockets["http"], grpc=sockets["grpc"], admin=sockets["admin"])
        mend = f"in use; free it, or set INFERWAY_SERVER__{setting.upper()}"
        with pytest.raises(ConfigurationError, match=mend):
            bound.listen()


def test_an_ipv6_address_is_told_in_brackets() -> None:
    with bind("::1", 0, "http_port") as bound:
        assert address(bound) == f"[::1]:{bound.getsockname()[1]}"


async def test_what_is_in_flight_when_the_signal_comes_is_answered(
    serving: asyncio.Task[None], settings: ServerSettings
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.http_port)
    writer.write(HEAD + BODY[:100])
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)
    assert not serving.done()
    writer.write(BODY[100:])
    status = await asyncio.wait_for(reader.readline(), SOON)
    writer.close()
    await asyncio.wait_for(serving, SOON)
    assert status == b"HTTP/1.1 200 OK\r\n"


async def test_a_listener_that_fails_ends_the_gateway(
    serve: Callable[[], asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("no more files")

    monkeypatch.setattr(HttpServer, "serve", fail)
    with pytest.raises(OSError, match="no more files"):
        await asyncio.wait_for(serve(), SOON)
