"""Processes that share a socket take about as many connections each; one that is gone holds nobody up."""

import asyncio
import os
import resource
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import listener
from gateway.grpc_server import GrpcServer, limits
from gateway.http_server import HttpServer
from gateway.listener import Connections, Listener, Port, Share, Shares
from gateway.settings import ServerSettings
from tests.certificates import Authority

SOON = 10.0
GONE = None
FILES = 40


@pytest.fixture
def file() -> Iterator[int]:
    with tempfile.TemporaryFile() as opened:
        opened.truncate(Shares.size_bytes(3))
        yield opened.fileno()


@pytest.fixture
def shares(file: int) -> Shares:
    made = Shares(file)
    for process in range(3):
        made.leave(process)
    return made


@pytest.mark.parametrize("port", Port)
@pytest.mark.parametrize(
    ("counts", "is_over"),
    [
        ((5, GONE, GONE), False),
        ((5, 5, 6), False),
        ((5, 4, 6), True),
        ((5, 0, GONE), True),
        ((0, GONE, 0), False),
    ],
)
def test_a_process_gives_way_to_one_that_takes_connections_and_has_fewer(
    shares: Shares, port: Port, counts: tuple[int | None, ...], is_over: bool
) -> None:
    for process, count in enumerate(counts):
        share = shares.of(port, process)
        if count is not GONE:
            share.enter()
            share.tell(count)
    assert shares.of(port, 0).is_over is is_over
    (other,) = set(Port) - {port}
    assert not shares.of(other, 0).is_over


def test_nobody_gives_way_to_a_process_that_has_left_whatever_it_still_tells(shares: Shares) -> None:
    mine, gone = shares.of(Port.GRPC, 0), shares.of(Port.GRPC, 1)
    for share in (mine, gone):
        share.enter()
    mine.tell(2)
    gone.tell(1)
    assert mine.is_over
    shares.leave(1)
    gone.tell(0)
    assert not mine.is_over


async def echo(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class Http:
    """An HTTP server of one process."""

    port = Port.HTTP

    def __init__(self, bound: socket.socket, share: Share) -> None:
        self._server = HttpServer(echo, ServerSettings(drain_seconds=0), None, share=share)
        self._serving = asyncio.create_task(self._server.serve(sockets=[bound]))

    async def stop(self) -> None:
        self._server.should_exit = True
        await asyncio.wait_for(self._serving, SOON)


class Grpc:
    """A gRPC server of one process."""

    port = Port.GRPC

    def __init__(self, bound: socket.socket, share: Share) -> None:
        def begin(*_: Any) -> Any:
            raise AssertionError("nobody calls")

        self._server = GrpcServer(begin, limits(ServerSettings()), share=share)
        self._server.start(bound)

    async def stop(self) -> None:
        await self._server.stop(0)


@pytest.mark.parametrize("kind", [Http, Grpc])
async def test_two_processes_on_one_socket_get_half_of_the_connections_each_and_a_lone_one_all(
    shares: Shares, file: int, kind: type[Http | Grpc]
) -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    ends = [socket.socket(fileno=socket.dup(bound.fileno())) for _ in range(2)]
    servers = [kind(end, shares.of(kind.port, process)) for process, end in enumerate(ends)]

    def counts() -> list[int]:
        return list(struct.unpack_from("=3i", os.pread(file, 100, 0), 12 * kind.port)[:2])

    async def settled(count: int) -> list[int]:
        async with asyncio.timeout(SOON):
            while True:
                taken = counts()
                if sum(max(0, each) for each in taken) == count:
                    return taken
                await asyncio.sleep(0.01)

    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    both = await settled(20)
    await servers[0].stop()
    connections += [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    after = await settled(24 - both[0])
    for _, each in connections:
        each.close()
    await servers[1].stop()
    bound.close()
    assert min(both) >= 8
    assert after == [-1, 24 - both[0]]
    assert counts() == [-1, -1]


class Talk(asyncio.Protocol):
    """A connection that says when it is there."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def connection_made(self, transport: Any) -> None:
        self._connections.add(self)
        transport.write(b"hello")

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (FILES, FILES))


Started = Callable[..., tuple[Listener, Connections, str, int]]


@pytest.fixture
def started() -> Started:
    def start(tls: Any = None) -> tuple[Listener, Connections, str, int]:
        bound = socket.create_server(("127.0.0.1", 0))
        connections = Connections()
        made = Listener(bound, lambda: Talk(connections), connections, files_divisor=2, tls=tls)
        return made, connections, *bound.getsockname()

    return start


def server_context(folder: Path) -> ssl.SSLContext:
    files = Authority(folder).issue("gateway", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


async def greeted(host: str, port: int, tls: ssl.SSLContext | None) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    except ConnectionError:
        return False
    said = await read(reader)
    writer.close()
    return said == b"hello"


async def read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(5), SOON)
    except ConnectionResetError:
        return b""


@pytest.mark.usefixtures("few_files")
@pytest.mark.parametrize("is_tls", [False, True], ids=["connections", "handshakes under way"])
async def test_connections_take_their_part_of_the_files_and_one_more_is_closed_at_once(
    started: Started, tmp_path: Path, *, is_tls: bool
) -> None:
    made, connections, host, port = started(server_context(tmp_path) if is_tls else None)
    held = [await asyncio.open_connection(host, port) for _ in range(FILES // 2)]
    if not is_tls:
        assert {await read(reader) for reader, _ in held} == {b"hello"}
    reader, writer = await asyncio.open_connection(host, port)
    assert await read(reader) == b""
    assert len(connections) == (0 if is_tls else FILES // 2)
    for _, each in [*held, (reader, writer)]:
        each.close()
    trusted = ssl._create_unverified_context() if is_tls else None  # noqa: S323 - whose it is does not matter
    async with asyncio.timeout(SOON):
        while not await greeted(host, port, trusted):  # noqa: ASYNC110 - the listener has no event for it
            await asyncio.sleep(0.01)
    await made.aclose()


async def test_a_handshake_that_never_ends_is_given_up_with_the_listener(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LAST_HANDSHAKES_SECONDS", 0.05)
    made, connections, host, port = started(server_context(tmp_path))
    reader, writer = await asyncio.open_connection(host, port)
    await asyncio.wait_for(made.aclose(), SOON)
    assert await read(reader) == b""
    assert not connections
    writer.close()


async def test_connections_that_wait_at_the_end_are_taken(started: Started) -> None:
    made, _, host, port = started()
    waiting = [socket.create_connection((host, port)) for _ in range(20)]  # the loop has had no turn
    await made.aclose()
    readers = [await asyncio.open_connection(sock=each) for each in waiting]
    assert {await read(reader) for reader, _ in readers} == {b"hello"}
    for _, writer in readers:
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, port)


async def test_a_system_without_files_is_told_and_connections_are_taken_once_there_are_some(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAUSE_SECONDS", 0.01)
    made, _, host, port = started()
    accept = socket.socket.accept
    tries = 0

    def fails_twice(self: socket.socket) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise OSError(24, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fails_twice)
    with structlog.testing.capture_logs() as logs:
        reader, writer = await asyncio.open_connection(host, port)
        assert await read(reader) == b"hello"
    assert [entry["event"] for entry in logs] == ["connection_not_accepted"] * 2
    writer.close()
    await made.aclose()
