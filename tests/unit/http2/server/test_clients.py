"""gRPC's own clients at our server: they must notice no difference."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.fakes import until
from tests.grpc_serving import GrpcServing
from tests.unit.http2.server.server_rig import BIG, ECHO, FAIL, MANY, SERVICE, WAIT, Echo, serving

MANY_BYTES = 3_000_000


class Rig:
    def __init__(self, echo: Echo, server: GrpcServing, channel: grpc.aio.Channel) -> None:
        self.echo, self.server, self.channel = echo, server, channel

    def call(self, path: str, message: bytes = b"hello", **options: Any) -> Any:
        method: Any = self.channel.unary_unary(path)
        return method(message, **{"timeout": 10, **options})


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    options = [("grpc.max_receive_message_length", -1)]
    async with (
        serving() as (echo, server),
        grpc.aio.insecure_channel(server.address, options=options) as channel,
    ):
        yield Rig(echo, server, channel)


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_531, MANY_BYTES])
async def test_a_message_of_any_size_comes_back(rig: Rig, size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert await rig.call(ECHO, message) == message


async def test_many_calls_at_a_time_each_get_their_own_reply(rig: Rig) -> None:
    sizes = [(7919 * number) % 200_000 for number in range(200)]
    replies = await asyncio.gather(*(rig.call(ECHO, bytes([n % 256]) * size) for n, size in enumerate(sizes)))
    assert replies == [bytes([n % 256]) * size for n, size in enumerate(sizes)]


async def test_a_large_reply_comes_whole(rig: Rig) -> None:
    assert len(await rig.call(BIG, b"20000000")) == 20_000_000


async def test_metadata_come_and_trailers_go(rig: Rig) -> None:
    call = rig.call(ECHO, metadata=(("a", "1"), ("a", "2"), ("b-bin", b"\0\xff"), ("c", "x y=z")))
    assert await call == b"hello"
    (context,) = rig.echo.contexts
    assert {name: context.metadata.get(name) for name in ("a", "b-bin", "c")} == {
        "a": "2",
        "b-bin": None,
        "c": "x y=z",
    }
    assert dict(await call.trailing_metadata())["seen"] == "5"
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("text", ["not here", "50% ünïcode\n", "", "x" * 2000])
async def test_a_failure_has_its_code_its_words_and_its_trailers(rig: Rig, text: str) -> None:
    call = rig.call(FAIL, text.encode())
    assert await call.code() is grpc.StatusCode.NOT_FOUND
    assert await call.details() == text
    assert dict(await call.trailing_metadata())["why"] == "so"


async def test_a_method_that_there_is_not_is_unimplemented(rig: Rig) -> None:
    call = rig.call(f"{SERVICE}/Nothing")
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
    assert await call.details() == "Method not found!"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_expanded(rig: Rig, compression: grpc.Compression) -> None:
    message = b"again and " * 10_000
    assert await rig.call(ECHO, message, compression=compression) == message
    call: Any = rig.channel.stream_stream(MANY)
    rig.echo.is_open.set()
    replies = [each async for each in call(iter([message, b"x"]), compression=compression)]
    assert replies == [message, b"x"]


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        (grpc.Compression.NoCompression, "Received message larger than max (4194305 vs. 4194304)"),
        (grpc.Compression.Gzip, "Decompressed message larger than max 4194304"),
        (grpc.Compression.Deflate, "Decompressed message larger than max 4194304"),
    ],
)
async def test_a_message_over_the_limit_is_refused_in_grpcs_words_as_sent_and_once_expanded(
    rig: Rig, compression: grpc.Compression, words: str
) -> None:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(rig.server.address, options=options) as channel:
        echo: Any = channel.unary_unary(ECHO)
        call = echo(bytes(4_194_305), compression=compression)
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert words in await call.details()
        assert await echo(bytes(4_194_304), compression=compression) == bytes(4_194_304)


async def test_a_deadline_ends_the_call_and_its_handler(rig: Rig) -> None:
    call = rig.call(WAIT, timeout=0.2)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: rig.echo.cancelled)
    left = rig.echo.contexts[0].time_left()
    assert left is not None
    assert left < 0.2


async def test_a_cancelled_call_cancels_its_handler(rig: Rig) -> None:
    call = rig.call(WAIT)
    await until(lambda: rig.echo.contexts)
    call.cancel()
    await until(lambda: rig.echo.cancelled)
    assert await rig.call(ECHO) == b"hello"


async def test_a_client_that_is_gone_cancels_all_of_its_handlers(rig: Rig) -> None:
    calls = [rig.call(WAIT) for _ in range(5)]
    await until(lambda: len(rig.echo.contexts) == 5)
    await rig.channel.close()
    await until(lambda: rig.echo.cancelled == 5)
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_stream_of_messages_comes_back_in_order(rig: Rig) -> None:
    rig.echo.is_open.set()
    messages = [bytes([n % 256]) * ((n * 7919) % 90_000) for n in range(200)]
    stub: Any = rig.channel.stream_stream(MANY)
    assert [reply async for reply in stub(iter(messages))] == messages


async def test_a_stream_that_is_cancelled_cancels_its_handler(rig: Rig) -> None:
    stub: Any = rig.channel.stream_stream(MANY)
    call = stub()
    await call.write(b"x")
    await until(lambda: rig.echo.contexts)
    call.cancel()
    await until(lambda: rig.echo.cancelled)


async def test_a_unary_method_takes_one_message(rig: Rig) -> None:
    stub: Any = rig.channel.stream_unary(ECHO)
    assert await stub(iter([b"one"])) == b"one"
    none = stub(iter([]))
    assert await none.code() is grpc.StatusCode.UNIMPLEMENTED
    slow: Any = rig.channel.stream_unary(WAIT)
    two = slow(iter([b"one", b"two"]))
    assert await two.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_blocking_client_gets_its_replies_too(rig: Rig) -> None:
    address, found = rig.server.address, []

    def ask() -> None:
        with grpc.insecure_channel(address) as channel:
            unary: Any = channel.unary_unary(ECHO)
            found.append(unary(b"sync", timeout=10))
            streamed: Any = channel.stream_stream(MANY)

            def slowly() -> Iterator[bytes]:
                for n in range(5):
                    time.sleep(0.01)
                    yield bytes([n])

            found.extend(streamed(slowly(), timeout=10))

    rig.echo.is_open.set()
    thread = threading.Thread(target=ask)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found == [b"sync", *(bytes([n]) for n in range(5))]


async def test_a_server_that_stops_answers_what_is_in_flight(rig: Rig) -> None:
    call = asyncio.ensure_future(rig.call(WAIT))
    await until(lambda: rig.echo.contexts)
    stopping = asyncio.create_task(rig.server.stop(10.0))
    await asyncio.sleep(0.1)
    rig.echo.is_open.set()
    assert await call == b"hello"
    await asyncio.wait_for(stopping, 5)
