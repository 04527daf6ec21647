"""How connections begin and end, and what becomes of the calls."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from grpc import StatusCode
from h2.settings import SettingCodes

from gateway.backends import grpc_channel
from gateway.backends.grpc_channel import GrpcChannel
from gateway.http2 import frames
from gateway.http2.call import MAX_REPEATS
from gateway.http2.frames import frame
from tests.fakes import FakeClock, settle, until
from tests.unit.http2.http2_rig import PATH, Raw, Server, answered, echo, failure, goaway, silent

UNAVAILABLE = StatusCode.UNAVAILABLE


async def test_calls_that_a_leaving_server_has_not_begun_are_sent_over_another_connection() -> None:
    async with Server.serving() as server:
        server.answer = silent
        calls = [server.call(b"%d" % number) for number in range(4)]
        await until(lambda: server.peers and len(server.whole()) == 4)
        server.answer = echo
        old = server.peer
        old.say(goaway(3))
        assert await asyncio.gather(*calls[2:]) == [b"2", b"3"]
        assert await server.call(b"new") == b"new"
        assert len(server.peers) == 2
        assert not old.is_lost
        for stream in (1, 3):
            echo(old, stream)
        assert await asyncio.gather(*calls[:2]) == [b"0", b"1"]
        await until(lambda: old.is_lost)
        assert await server.call(b"newer") == b"newer"
        assert len(server.peers) == 2


async def test_a_server_may_say_twice_that_it_leaves() -> None:
    async with Server.serving() as server:
        server.answer = silent
        calls = [server.call(b"%d" % number) for number in range(2)]
        await until(lambda: server.peers and len(server.whole()) == 2)
        server.answer = echo
        old = server.peer
        old.say(goaway(2**31 - 1))
        await settle()
        old.say(goaway(1))
        assert await calls[1] == b"1"
        echo(old, 1)
        assert await calls[0] == b"0"
        await until(lambda: old.is_lost)


async def test_a_leaving_server_is_left_at_once_without_calls_whatever_else_it_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Server.serving() as server:
        await server.call()
        old = server.peer
        old.say(goaway(1), frame(frames.PING, 0, 0, bytes(8)) * 20, frames.settings(()))
        await until(lambda: old.is_lost)
        assert await server.call() == b"hello"
        assert not caplog.records  # asyncio warns of writes to what is closed


async def test_a_call_whose_deadline_passes_on_a_leaving_connection_closes_it() -> None:
    async with Server.serving() as server:
        await server.call()
        server.answer = silent
        call = server.call(timeout=0.2)
        await until(lambda: server.whole() == [1, 3])
        server.peer.say(goaway(3))
        assert (await failure(call))[0] is StatusCode.DEADLINE_EXCEEDED
        await until(lambda: server.peer.is_lost)


async def test_a_lost_connection_fails_what_was_sent_and_repeats_what_waited() -> None:
    async with Server.serving() as server:
        server.settings, server.answer = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}, silent
        sent, waiting = server.call(b"sent"), server.call(b"waiting")
        await until(lambda: server.peers and server.whole())
        server.answer = echo
        server.peer.transport.abort()
        code, _, was_sent = await failure(sent)
        assert (code, was_sent) == (UNAVAILABLE, True)
        assert await waiting == b"waiting"
        assert len(server.peers) == 2


async def test_a_connection_that_the_server_half_closes_is_lost_even_when_it_reads_no_more() -> None:
    async with Server.serving(Raw) as server:
        server.greeting = frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**31 - 1),)) + frame(
            frames.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")
        )
        assert await server.call(b"hello") == b"ok"
        server.raw.transport.pause_reading()
        calls = [server.call(bytes(4_000_000)) for _ in range(5)]
        await settle()
        server.raw.transport.write_eof()
        for call in calls:
            code, _, was_sent = await failure(call)
            assert (code, was_sent) == (UNAVAILABLE, True)
        assert await server.call(b"hello") == b"ok"
        assert len(server.raws) == 2


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        frame(frames.PING, 0, 0, bytes(8)),
        frame(frames.SETTINGS, 0, 0, bytes(7)),
        frame(frames.SETTINGS, frames.ACK, 0, b"") + frame(frames.PING, 0, 0, bytes(8)),
        goaway(0),
    ],
)
async def test_a_server_that_does_not_speak_http_2_is_not_reached(greeting: bytes) -> None:
    async with Server.serving(Raw) as server:
        server.greeting = greeting
        code, text, was_sent = await failure(server.call())
        assert (code, was_sent) == (UNAVAILABLE, False)
        assert text.startswith(f"failed to connect to 127.0.0.1:{server.port}: ")
        await until(lambda: server.raw.is_lost)


async def test_a_server_that_accepts_and_never_speaks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_channel, "CONNECT_SECONDS", 0.1)
    async with Server.serving(Raw) as server:
        server.greeting = b""
        code, text, was_sent = await failure(server.call())
        assert (code, was_sent) == (UNAVAILABLE, False)
        assert text.endswith("TimeoutError")
        await until(lambda: server.raws and server.raw.is_lost)
        assert not server.channel._connections


async def test_a_server_that_answers_no_connect_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_channel, "CONNECT_SECONDS", 0.1)
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())  # the backlog is full: another is not answered
        channel = GrpcChannel(f"127.0.0.1:{listener.getsockname()[1]}", max_request_bytes=1000)
        code, text, was_sent = await failure(channel.method(PATH)(b"", timeout=5.0))
        assert (code, was_sent) == (UNAVAILABLE, False)
        assert text.endswith("TimeoutError")
        await channel.aclose()


class Closing(Raw):
    """Closes each connection after the greeting."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.close()


async def test_a_server_that_closes_at_once_fails_the_call() -> None:
    async with Server.serving(Closing) as server:
        server.greeting = b""
        code, _, was_sent = await failure(server.call())
        assert (code, was_sent) == (UNAVAILABLE, False)


async def test_a_server_that_speaks_and_closes_at_once_fails_the_call() -> None:
    async with Server.serving(Closing) as server:
        assert (await failure(server.call()))[0] is UNAVAILABLE


async def test_a_server_that_speaks_and_leaves_in_one_packet_is_not_reached() -> None:
    async with Server.serving(Raw) as server:
        server.greeting = frames.settings(()) + goaway(0)
        code, _, was_sent = await failure(server.call())
        assert (code, was_sent) == (UNAVAILABLE, False)
        await until(lambda: server.raw.is_lost)


async def test_after_a_refused_connection_calls_fail_at_once_for_longer_each_time_and_then_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(grpc_channel, "time", SimpleNamespace(monotonic=clock))
    async with Server.serving(Raw) as server:
        server.greeting = b"nothing of HTTP/2"
        for number, seconds in enumerate((0.1, 0.16, 0.256, 0.4096, 0.65536, 1.0, 1.0), 1):
            assert not (await failure(server.call()))[2]
            clock.now += seconds - 0.001
            call = server.call()
            assert call.done()
            code, text, was_sent = await failure(call)
            assert (code, was_sent) == (UNAVAILABLE, False)
            assert text.startswith("failed to connect to")
            assert len(server.raws) == number
            clock.now += 0.002
        server.greeting = frames.settings(())
        assert await server.call() == b"ok"
        server.raw.transport.abort()
        await until(lambda: server.channel._connection is None)
        server.greeting = b"nothing of HTTP/2"
        assert not (await failure(server.call()))[2]
        clock.now += 0.101  # it begins anew
        server.greeting = frames.settings(())
        assert await server.call() == b"ok"


async def test_calls_while_connecting_share_the_connection_and_may_leave() -> None:
    async with Server.serving(Raw) as server:
        server.greeting = b""
        cancelled, expired, kept = server.call(), server.call(timeout=0.05), server.call()
        await until(lambda: server.raws)
        cancelled.cancel()
        assert (await failure(expired))[0] is StatusCode.DEADLINE_EXCEEDED
        await settle()
        assert len(server.channel._waiting) == 1
        server.raw.say(frames.settings(()))
        assert await kept == b"ok"
        assert len(server.raw.kinds(frames.HEADERS)) == len(server.raws) == 1


@pytest.mark.parametrize("address", ["nowhere.invalid:1", "127.0.0.1:port", "127.0.0.1"])
async def test_an_address_that_is_none_fails_the_call(address: str) -> None:
    channel = GrpcChannel(address, max_request_bytes=1000)
    code, text, was_sent = await failure(channel.method(PATH)(b"", timeout=20.0))
    assert (code, was_sent) == (UNAVAILABLE, False)
    assert text.startswith(f"failed to connect to {address}: ")
    await channel.aclose()


async def test_closing_fails_calls_under_way_and_all_that_follow() -> None:
    async with Server.serving() as server:
        server.settings, server.answer = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}, silent
        calls = [server.call(), server.call()]
        await until(lambda: server.peers and server.whole())
        await server.channel.aclose()
        for call in calls:
            assert (await failure(call))[:2] == (StatusCode.CANCELLED, "the channel was closed")
        await until(lambda: server.peer.is_lost)
        assert await failure(server.call()) == (UNAVAILABLE, "the channel is closed", False)
        await server.channel.aclose()
        assert len(server.peers) == 1


async def test_closing_while_connecting_fails_the_calls_and_ends_the_connection() -> None:
    async with Server.serving(Raw) as server:
        server.greeting = b""
        call = server.call()
        await until(lambda: server.raws)
        await server.channel.aclose()
        assert await failure(call) == (StatusCode.CANCELLED, "the channel is closed", False)
        await until(lambda: server.raw.is_lost)


@pytest.mark.parametrize("turns", range(8))
async def test_closing_at_any_moment_of_connecting_leaves_nothing_behind(turns: int) -> None:
    async with Server.serving(Raw) as server:
        call = server.call()
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.channel.aclose()
        assert call.done()
        assert call.exception() or call.result() == b"ok"  # it was too late to fail
        assert server.channel._connecting is None
        assert not server.channel._connections


async def test_closing_ends_a_connection_whose_server_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_channel, "CLOSE_SECONDS", 0.05)
    async with Server.serving(Raw) as server:
        server.greeting = frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**31 - 1),)) + frame(
            frames.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")
        )
        assert await server.call() == b"ok"
        server.raw.transport.pause_reading()
        calls = [server.call(bytes(4_000_000)) for _ in range(5)]
        (connection,) = server.channel._connections
        await server.channel.aclose()
        for call in calls:
            assert (await failure(call))[0] is StatusCode.CANCELLED
        await until(connection.lost.done)


async def test_a_reply_in_the_packet_that_says_the_server_leaves_is_taken() -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda raw, stream: raw.say(goaway(stream), answered(stream))
        assert await server.call() == b"ok"
        await until(lambda: server.raw.is_lost)
        assert await server.call() == b"ok"
        assert len(server.raws) == 2


async def test_a_call_that_no_connection_takes_was_not_sent_and_connections_are_made_more_slowly() -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda raw, _: raw.say(goaway(0))
        code, _, was_sent = await failure(server.call())
        assert (code, was_sent) == (UNAVAILABLE, False)
        assert len(server.raws) == server.channel._fruitless == MAX_REPEATS + 1
        await until(lambda: all(raw.is_lost for raw in server.raws))


async def test_a_call_that_waited_for_its_turn_may_move_on_as_often_as_it_must() -> None:
    async with Server.serving(Raw) as server:
        server.greeting = frames.settings(((frames.MAX_CONCURRENT_STREAMS, 1),))
        # As proxies do that take so many requests a connection.
        server.script = lambda raw, stream: raw.say(goaway(stream), answered(stream))
        calls = [server.call() for _ in range(2 * MAX_REPEATS)]
        assert await asyncio.gather(*calls) == [b"ok"] * len(calls)
        assert len(server.raws) == len(calls)
        assert server.channel._fruitless == 0  # it said that it leaves, and answered


async def test_a_call_whose_caller_has_left_is_not_sent_again() -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda *_: None
        left = server.call()
        await until(lambda: server.raws and server.raw.kinds(frames.DATA))
        server.channel.withdraw(left)
        server.raw.say(goaway(0))
        assert (await failure(left))[2] is False
        assert len(server.raws) == 1


async def test_a_call_that_was_not_sent_yet_can_be_withdrawn_and_one_that_was_cannot() -> None:
    async with Server.serving(Raw) as server:
        greeting, server.greeting = frames.settings(((frames.MAX_CONCURRENT_STREAMS, 1),)), b""
        server.script = lambda *_: None
        while_connecting, sent = server.call(), server.call()
        await until(lambda: server.raws)
        server.channel.withdraw(while_connecting)
        assert while_connecting.cancelled()
        server.raw.say(greeting)
        await until(lambda: server.raw.kinds(frames.DATA))
        waiting = server.call()
        for reply in (sent, waiting):
            server.channel.withdraw(reply)
        assert (sent.done(), waiting.cancelled()) == (False, True)
        server.raw.say(answered(1))
        assert await sent == b"ok"
        assert len(server.raw.kinds(frames.HEADERS)) == 1


async def test_a_name_is_looked_up_once_at_a_time_although_callers_give_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    looked_up: list[str] = []
    found: asyncio.Future[list[Any]] = loop.create_future()

    async def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        return await found

    async with Server.serving() as server:
        monkeypatch.setattr(grpc_channel, "CONNECT_SECONDS", 0.01)
        monkeypatch.setattr(grpc_channel, "_backoff", lambda _: 0.0)
        monkeypatch.setattr(loop, "getaddrinfo", look_up)
        for _ in range(3):
            assert (await failure(server.call()))[0] is UNAVAILABLE
        assert looked_up == ["127.0.0.1"]
        monkeypatch.setattr(grpc_channel, "CONNECT_SECONDS", 5.0)
        call = server.call()
        found.set_result([(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))])
        assert await call == b"hello"
