"""Calls as streams: how many at once, how they are ended from either side."""

import asyncio
import gc
import weakref

import pytest
from grpc import StatusCode
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from gateway.http2 import frames
from gateway.http2.call import timeout_text
from gateway.http2.connection import Connection
from gateway.http2.frames import frame
from tests.fakes import settle, until
from tests.unit.http2.http2_rig import PATH, Peer, Raw, Server, answered, echo, failure, silent

TWO = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}


def the_connection(server: Server) -> Connection:
    (connection,) = server.channel._connections
    return connection


async def test_calls_beyond_the_servers_limit_wait_for_a_free_stream() -> None:
    async with Server.serving() as server:
        server.settings, server.answer = TWO, silent
        calls = [server.call(b"%d" % number) for number in range(5)]
        for expected in ([1, 3], [1, 3, 5], [1, 3, 5, 7], [1, 3, 5, 7, 9]):
            await until(lambda: server.peers and len(server.whole()) >= len(expected))  # noqa: B023
            await settle()
            assert server.whole() == expected
            server.peer.reply(expected[-2], bytes(server.peer.requests[expected[-2]].body))
        server.peer.reply(9, bytes(server.peer.requests[9].body))
        assert await asyncio.gather(*calls) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_waiting_call_that_nobody_waits_for_is_forgotten_and_never_sent() -> None:
    async with Server.serving() as server:
        server.settings, server.answer = TWO, silent
        first = [server.call(b"first") for _ in range(2)]
        cancelled, expired, last = server.call(b"no"), server.call(b"no", timeout=0.05), server.call(b"last")
        await until(lambda: server.peers and len(server.whole()) == 2)
        cancelled.cancel()
        assert (await failure(expired))[0] is StatusCode.DEADLINE_EXCEEDED
        await settle()
        (waiting,) = the_connection(server)._waiting
        assert waiting.message == b"last"
        del waiting
        server.answer = echo
        for stream in (1, 3):
            server.answer(server.peer, stream)
        assert await asyncio.gather(*first, last) == [b"first", b"first", b"last"]
        assert [request.message for request in server.peer.requests.values()] == [b"first", b"first", b"last"]


async def test_a_limit_that_is_raised_lets_waiting_calls_begin() -> None:
    async with Server.serving() as server:
        server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 0}
        calls = [server.call(b"a"), server.call(b"b")]
        await until(lambda: server.peers and server.channel._connection)
        await settle()
        assert not server.peer.requests
        server.peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        server.peer.flush()
        assert await asyncio.gather(*calls) == [b"a", b"b"]


async def test_a_cancelled_call_lets_a_waiting_one_begin() -> None:
    async with Server.serving() as server:
        server.settings, server.answer = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}, silent
        first, second = server.call(b"first"), server.call(b"second")
        await until(lambda: server.peers and server.whole())
        first.cancel()
        await until(lambda: server.whole() == [1, 3])
        assert server.peer.requests[1].reset == 8
        server.peer.reply(3, bytes(server.peer.requests[3].body))
        assert await second == b"second"


@pytest.mark.parametrize(
    ("timeout", "written"),
    [
        (0.0, "1u"),
        (-1.0, "1u"),
        (0.0000001, "1u"),
        (1.5, "1500000u"),
        (99.999999, "99999999u"),
        (99.9999999, "100000m"),
        (100.0, "100000m"),
        (120.0, "120000m"),
        (99_999.999, "99999999m"),
        (100_000.0, "100000S"),
        (1e12, "99999999S"),
    ],
)
def test_a_timeout_is_written_in_at_most_eight_digits_and_never_shorter(timeout: float, written: str) -> None:
    assert timeout_text(timeout) == written


async def test_a_deadline_that_passes_is_told_to_the_caller_and_the_server() -> None:
    async with Server.serving() as server:
        assert await server.call(timeout=None) == b"hello"
        assert b"grpc-timeout" not in server.peer.requests[1].headers
        server.answer = silent
        call = server.call(timeout=0.125)
        assert await failure(call) == (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", True)
        await until(lambda: 3 in server.peer.requests and server.peer.requests[3].reset == 8)
        told = server.peer.requests[3].headers[b"grpc-timeout"]
        assert told.endswith(b"u")
        assert 0 < int(told[:-1]) <= 125_000


async def test_the_server_is_told_what_is_left_when_it_gets_the_call() -> None:
    async with Server.serving() as server:
        server.settings, server.answer = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}, silent
        first, second = server.call(), server.call(timeout=10.0)
        await until(lambda: server.peers and server.whole())
        (waiting,) = the_connection(server)._waiting
        waiting.deadline -= 8.0  # as if it had waited
        server.answer = echo
        first.cancel()
        await second
        assert int(server.peer.requests[3].headers[b"grpc-timeout"][:-1]) <= 2_000_000


async def test_a_cancelled_call_is_reset_and_forgotten() -> None:
    async with Server.serving() as server:
        server.answer = silent
        call = server.call()
        await until(lambda: server.peers and server.whole())
        waiter = weakref.ref(next(iter(the_connection(server)._calls.values())).reply)
        call.cancel()
        await until(lambda: server.peer.requests[1].reset == 8)
        assert not the_connection(server)._calls
        del call
        gc.collect(1)
        assert waiter() is None


async def test_a_reply_to_a_call_that_was_cancelled_at_the_same_time_is_dropped() -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda _, __: None
        call = server.call()
        await until(lambda: server.raws and server.raw.kinds(frames.DATA))
        (connection,) = server.channel._connections
        call.cancel()  # its callbacks come after what the server sends in the same moment
        connection.data_received(answered(1))
        assert call.cancelled()
        server.script = lambda raw, stream: raw.say(answered(stream))
        assert await server.call() == b"ok"
        assert not connection._calls


CODES = {
    0x0: StatusCode.INTERNAL,
    0x1: StatusCode.INTERNAL,
    0x2: StatusCode.INTERNAL,
    0x3: StatusCode.INTERNAL,
    0x4: StatusCode.INTERNAL,
    0x5: StatusCode.INTERNAL,
    0x6: StatusCode.INTERNAL,
    0x8: StatusCode.CANCELLED,
    0x9: StatusCode.INTERNAL,
    0xA: StatusCode.INTERNAL,
    0xB: StatusCode.RESOURCE_EXHAUSTED,
    0xC: StatusCode.PERMISSION_DENIED,
    0xD: StatusCode.INTERNAL,
    0xFFFF: StatusCode.INTERNAL,
}


@pytest.mark.parametrize(("code", "status"), CODES.items())
async def test_a_reset_is_told_as_grpc_maps_it(code: int, status: StatusCode) -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda raw, stream: raw.say(
            frame(frames.RST_STREAM, 0, stream, code.to_bytes(4, "big"))
        )
        assert await failure(server.call()) == (status, f"Received RST_STREAM with error code {code}", True)


def refused(peer: Peer, stream: int) -> None:
    peer.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)


async def test_a_refused_call_is_sent_once_more() -> None:
    async with Server.serving() as server:

        def refuse_first(peer: Peer, stream: int) -> None:
            server.answer = echo
            refused(peer, stream)

        server.answer = refuse_first
        assert await server.call(b"again") == b"again"
        assert server.whole() == [1, 3]
        first, second = (server.peer.requests[stream].headers for stream in (1, 3))
        assert first.keys() == second.keys()
        assert first[b":path"] == second[b":path"]


async def test_a_call_that_is_refused_again_and_again_was_not_sent() -> None:
    async with Server.serving() as server:
        server.answer = refused
        failed = await failure(server.call())
        assert failed == (StatusCode.UNAVAILABLE, "the server refused the call", False)
        assert server.whole() == [1, 3, 5, 7]


async def test_a_call_that_is_refused_beside_others_waits_for_one_of_them_to_end() -> None:
    async with Server.serving() as server:
        server.answer = silent
        first = server.call(b"first")
        await until(lambda: server.peers and server.whole())
        server.answer = refused
        second = server.call(b"second")
        await until(lambda: server.whole() == [1, 3])
        await settle()
        assert server.whole() == [1, 3]
        server.answer = echo
        echo(server.peer, 1)
        assert await first == b"first"
        assert await second == b"second"
        assert server.whole() == [1, 3, 5]


async def test_a_large_call_that_is_refused_while_it_is_sent_is_whole_the_second_time() -> None:
    async with Server.serving() as server:
        message = bytes(range(250)) * 1000
        server.gives_room = False
        call = server.call(message)
        await until(lambda: server.peers and server.peer.requests and server.peer.requests[1].body)
        server.gives_room = True
        refused(server.peer, 1)
        server.peer.h2.increment_flow_control_window(1_000_000)
        server.peer.flush()
        assert await call == message


async def test_the_last_stream_of_a_connection_is_used_and_then_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.http2.connection.LAST_STREAM", 7)
    async with Server.serving() as server:
        calls = [server.call(b"%d" % number) for number in range(9)]
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(9)]
        assert [[*peer.requests] for peer in server.peers] == [[1, 3, 5, 7], [1, 3, 5, 7], [1]]
        await until(lambda: server.peers[0].is_lost and server.peers[1].is_lost)


async def test_methods_are_made_once() -> None:
    async with Server.serving() as server:
        assert server.channel.method(PATH) is server.channel.method(PATH)


async def test_a_call_whose_time_is_over_before_it_has_a_connection_is_never_sent() -> None:
    async with Server.serving(Raw) as server:
        server.greeting = b""
        call = server.call(timeout=0.0)
        assert (await failure(call))[0] is StatusCode.DEADLINE_EXCEEDED
        await until(lambda: server.raws)
        server.raw.say(frames.settings(()))
        await until(lambda: server.channel._connection)
        server.script = lambda raw, stream: raw.say(answered(stream))
        assert await server.call() == b"ok"
        assert [stream for _, _, stream, _ in server.raw.kinds(frames.HEADERS)] == [1]


async def test_a_call_that_is_cancelled_and_refused_in_the_same_moment_is_gone() -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda _, __: None
        call = server.call()
        await until(lambda: server.raws and server.raw.kinds(frames.DATA))
        connection = the_connection(server)
        call.cancel()
        connection.data_received(frame(frames.RST_STREAM, 0, 1, b"\0\0\0\7"))
        await settle()
        assert not connection._calls
        server.script = lambda raw, stream: raw.say(answered(stream))
        assert await server.call() == b"ok"


async def test_a_call_that_expires_while_it_is_sent_takes_its_rest_along() -> None:
    async with Server.serving() as server:
        assert await server.call() == b"hello"
        server.gives_room = False
        call = server.call(bytes(1_000_000), timeout=0.1)
        assert (await failure(call))[0] is StatusCode.DEADLINE_EXCEEDED
        await until(lambda: 3 in server.peer.requests and server.peer.requests[3].reset == 8)
        connection = the_connection(server)
        assert not connection._calls
        assert not connection._sending.blocked


async def test_calls_that_a_server_takes_one_at_a_time_without_saying_so_all_come_through() -> None:
    async with Server.serving() as server:
        running: list[int] = []

        def one_at_a_time(peer: Peer, stream: int) -> None:
            if running:
                refused(peer, stream)
                return
            running.append(stream)
            asyncio.get_running_loop().call_later(0.005, end, peer, stream)

        def end(peer: Peer, stream: int) -> None:
            running.clear()
            echo(peer, stream)

        server.answer = one_at_a_time
        calls = [server.call(b"%d" % number) for number in range(10)]
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(10)]


async def test_a_refused_call_keeps_no_other_back_and_is_sent_again_in_a_moment() -> None:
    async with Server.serving() as server:
        server.answer = silent
        hung = server.call(b"hung")
        await until(lambda: server.peers and server.whole())
        server.answer = refused
        unlucky = server.call(b"unlucky")
        await until(lambda: server.whole() == [1, 3])
        server.answer = echo
        assert await server.call(b"probe") == b"probe"
        assert await unlucky == b"unlucky"
        assert hung.cancel()
