"""Processes that share a socket take about as many connections each; one that is gone holds nobody up."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.settings import ServerSettings
from gateway.supervisor.shared_listener import ABSENT, SharedHttpServer, Shares

SOON = 10.0


@pytest.fixture
def shares() -> Iterator[Shares]:
    with tempfile.TemporaryFile() as file:
        file.truncate(Shares.size_bytes(3))
        made = Shares(file.fileno(), 3)
        for process in range(3):
            made.set(process, ABSENT)
        yield made


@pytest.mark.parametrize(
    ("counts", "is_over"),
    [
        ((5, ABSENT, ABSENT), False),
        ((5, 5, 6), False),
        ((5, 4, 6), True),
        ((5, 0, ABSENT), True),
        ((0, ABSENT, 0), False),
    ],
)
def test_a_process_gives_way_to_one_that_takes_connections_and_has_fewer(
    shares: Shares, counts: tuple[int, ...], is_over: bool
) -> None:
    for process, count in enumerate(counts):
        shares.set(process, count)
    assert shares.is_over(0) is is_over


async def echo(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_two_processes_on_one_socket_get_half_of_the_connections_each_and_a_lone_one_all(
    shares: Shares,
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = ServerSettings(drain_seconds=0)
    servers = [SharedHttpServer(echo, settings, None, shares=shares, process=each) for each in (0, 1)]
    ends = [socket.socket(fileno=socket.dup(listener.fileno())) for _ in servers]
    serving = [
        asyncio.create_task(server.serve(sockets=[end])) for server, end in zip(servers, ends, strict=True)
    ]

    async def settled(count: int) -> list[int]:
        async with asyncio.timeout(SOON):
            while True:
                taken = [len(server.server_state.connections) for server in servers]
                if sum(taken) == count:
                    return taken
                await asyncio.sleep(0.01)

    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    both = await settled(20)
    servers[0].should_exit = True
    await asyncio.wait_for(serving[0], SOON)
    connections += [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    after = await settled(20 - both[0] + 4)
    reader, writer = connections[-1]
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert await asyncio.wait_for(reader.readline(), SOON) == b"HTTP/1.1 200 OK\r\n"
    for _, each in connections:
        each.close()
    servers[1].should_exit = True
    await asyncio.wait_for(serving[1], SOON)
    listener.close()
    assert min(both) >= 8
    assert after == [0, 24 - both[0]]
