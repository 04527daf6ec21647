"""What a careful client may do, and a careless caller may cause, that others must not suffer from."""

import asyncio
import gc
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from grpc import StatusCode
from hpack import Decoder

from gateway.http2 import frames
from gateway.http2.frames import frame, header
from gateway.http2.incoming import IncomingCall
from gateway.http2.server_connection import ServerConnection
from gateway.protocols.grpc_methods import Context, Failed, Method
from tests.fakes import until
from tests.grpc_serving import GrpcServing
from tests.unit.http2.server.h2_client import by_h2
from tests.unit.http2.server.server_rig import (
    BIG,
    ECHO,
    FAIL,
    MANY,
    WAIT,
    Client,
    block,
    call,
    data,
    enveloped,
    opening,
    raw,
    serving,
)


@pytest.mark.parametrize("digits", [19, 5000])
async def test_a_length_of_any_number_of_digits_ends_its_call_alone(digits: int) -> None:
    says = frame(frames.HEADERS, frames.END_HEADERS, 1, block(("content-length", "9" * digits)))
    async with raw(says, data(1, enveloped(b"")), call(3)) as (_, client):
        assert await client.answered(3) == b"hello"
        assert await client.refused(1) == frames.PROTOCOL_ERROR


async def test_a_length_below_nothing_is_malformed() -> None:
    async with raw(call(1, b"", ("content-length", "-1"))) as (_, client):
        assert await client.refused(1) == frames.PROTOCOL_ERROR


@pytest.mark.parametrize("text", ["x" * 20_000, "é" * 10_000])
async def test_a_long_text_of_a_failure_fits_a_frame_of_any_client(text: str) -> None:
    async with by_h2() as (_, client):
        stream = client.start(FAIL)
        await client.send(stream, enveloped(text.encode()))
        await client.until(lambda: stream in client.ended)
        assert client.trailers[stream]["grpc-status"] == "5"
        assert await client.call(ECHO, b"still here") == b"still here"


@pytest.mark.parametrize("text", ["x" * 20_000, "é\n" * 10_000, "\ud800\0%" * 10_000, "x" * 20_000_000])
async def test_texts_and_trailers_of_any_length_and_content_fit_one_frame(text: str) -> None:
    async def long(_: bytes, __: Context) -> bytes:
        raise Failed(StatusCode.NOT_FOUND, text, (("a", text), ("b", text), ("c", "short"), ("d", text)))

    async with GrpcServing({ECHO: Method(long)}) as server:
        client = await Client.to(server.address, call(1))
        await client.until(lambda: client.is_ended(1))
        fields = dict(Decoder().decode(client.trailers(1), raw=True))
        assert fields[b"grpc-status"] == b"5"
        assert fields[b"c"] == b"short"
        assert sum(len(name) + len(value) + 32 for name, value in fields.items()) < 8 * 1024
        said = unquote(fields[b"grpc-message"].decode()).rstrip("\ufffd")  # half a character
        assert len(said) > 500
        assert text.encode(errors="replace").decode().startswith(said)
        await client.close()


async def test_a_client_that_keeps_no_table_is_told_that_we_keep_none() -> None:
    none = frames.settings(((frames.HEADER_TABLE_SIZE, 0),))
    async with raw(none, call(1)) as (_, client):
        await client.until(lambda: client.is_ended(1))
        decoder = Decoder()
        decoder.max_allowed_table_size = 0  # it insists on an update from now on (RFC 7541, 4.2)
        blocks = [decoder.decode(one[3], raw=True) for one in client.kinds(frames.HEADERS, 1)]
        assert next(iter(blocks[0]))[0] == b":status"


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only counts of references free anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _alive(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("path", [WAIT, MANY])
async def test_a_cancelled_call_leaves_nothing_for_the_collector(path: str) -> None:
    async with raw(opening(1, (":path", path)), data(1, enveloped(b"x"), 0)) as (echo, client):
        await client.until(lambda: client.kinds(frames.SETTINGS))
        await client.round_trip()
        client.say(frames.reset(1, frames.CANCEL))
        await client.round_trip()
        await client.round_trip()
        assert echo.cancelled == 1
        assert _alive(IncomingCall) == 0


@pytest.mark.usefixtures("no_collector")
async def test_a_call_that_misses_its_deadline_leaves_nothing_for_the_collector() -> None:
    async with raw(call(1, b"", (":path", WAIT), ("grpc-timeout", "1m"))) as (_, client):
        await client.until(lambda: client.is_ended(1))
        assert header("grpc-status", "4") in client.trailers(1)
        await client.round_trip()
        assert _alive(IncomingCall) == 0


@pytest.mark.usefixtures("no_collector")
async def test_a_connection_that_is_gone_leaves_nothing_for_the_collector() -> None:
    async with serving() as (echo, server):
        before = _alive(ServerConnection)
        client = await Client.to(server.address, call(1), call(3, b"", (":path", WAIT)))
        await client.answered(1)
        await client.round_trip()
        await client.close()
        async with asyncio.timeout(5):
            while not echo.cancelled or server.server._connections:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert _alive(ServerConnection) == before


async def test_pings_while_a_large_reply_leaves_are_no_strikes() -> None:
    """gRPC's own clients measure with pings how fast it comes."""
    ping = frame(frames.PING, 0, 0, b"how fast")
    size = 6 * frames.WINDOW_BYTES
    async with raw(call(1, b"%d" % size, (":path", BIG))) as (_, client):
        for windows in range(1, 7):
            await client.until(lambda many=windows: len(client.body(1)) == many * frames.WINDOW_BYTES)  # type: ignore[misc]
            more = (frames.window_update(stream, frames.WINDOW_BYTES) for stream in (0, 1))
            client.say(ping, *more)
        assert len(await client.answered(1)) == size
        assert len(client.kinds(frames.PING)) == 6


async def test_what_breaks_in_us_ends_one_connection_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("gateway.http2.streams.Streams.enlarge", broken)
    async with serving() as (echo, server):
        neighbour = await Client.to(server.address, call(1, b"", (":path", WAIT)))
        client = await Client.to(server.address, call(1, b"", (":path", WAIT)))
        await until(lambda: len(echo.contexts) == 2)
        client.say(frames.window_update(1, 1))
        assert (await client.dismissed())[0] == frames.INTERNAL_ERROR
        await until(lambda: len(server.server._connections) == 1 and echo.cancelled == 1)
        echo.is_open.set()
        assert await neighbour.answered(1) == b""
        await asyncio.gather(client.close(), neighbour.close())
    assert "grpc_connection_failed" in capsys.readouterr().out


async def test_a_timer_that_breaks_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("gateway.http2.server_connection.ServerConnection.ping", broken)
    async with raw(opening_seconds=0.1, ping_seconds=0.0) as (_, client):
        assert (await client.dismissed())[0] == frames.INTERNAL_ERROR
    assert "grpc_connection_failed" in capsys.readouterr().out
