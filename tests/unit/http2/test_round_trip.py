"""Calls over a connection to h2: messages of any size, any number at once, and windows."""

import asyncio

import pytest
from h2.settings import SettingCodes

from gateway.http2 import connection as connection_module
from gateway.http2 import frames
from gateway.http2.connection import Connection
from tests.fakes import settle, until
from tests.unit.http2.http2_rig import PATH, Peer, Raw, Server, answered, silent

BIG = bytes(range(251)) * 12_000
"""Some 3 MB, and no two pieces of it alike where they meet."""


async def test_a_message_comes_back_and_the_request_is_as_grpc_has_it() -> None:
    async with Server.serving() as server:
        assert await server.call(b"hello") == b"hello"
        assert await server.call(b"") == b""
        sent = server.peer.requests[1]
        assert sent.body == b"\0\0\0\0\5hello"
        names = [name.decode() for name in sent.headers]
        assert names[:4] == [":method", ":scheme", ":path", ":authority"]
        fixed = {name: sent.headers[name] for name in (b":method", b":path", b"te", b"content-type")}
        assert fixed == {
            b":method": b"POST",
            b":path": PATH.encode(),
            b"te": b"trailers",
            b"content-type": b"application/grpc",
        }
        assert len(server.peers) == 1


async def test_a_hundred_calls_at_once_share_a_connection_and_get_their_own_replies() -> None:
    async with Server.serving() as server:
        server.answer = silent
        calls = [server.call(b"%d" % number) for number in range(100)]
        await until(lambda: server.peers and len(server.whole()) == 100)
        for stream in reversed(server.whole()):
            server.peer.reply(stream, bytes(server.peer.requests[stream].body))
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(100)]
        assert len(server.peers) == 1


async def test_messages_of_megabytes_go_both_ways_over_the_smallest_default_windows() -> None:
    async with Server.serving() as server:
        assert await asyncio.gather(*(server.call(BIG) for _ in range(3))) == [BIG] * 3


async def test_a_message_of_the_limit_fits_what_the_server_may_send() -> None:
    async with Server.serving(max_request_bytes=200_000) as server:
        message = bytes(200_000 + 64 * 1024)
        assert await server.call(message) == message


async def test_the_connections_window_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "RECEIVE_BYTES", 100_000)
    async with Server.serving() as server:
        for _ in range(5):
            assert await server.call(bytes(90_000)) == bytes(90_000)


async def test_a_window_that_is_enlarged_by_a_setting_lets_blocked_calls_go_on() -> None:
    async with Server.serving() as server:
        server.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 0}
        server.gives_room = False
        calls = [server.call(b"a" * 1000), server.call(b"b" * 1000)]
        await until(lambda: server.peers and len(server.peer.requests) == 2)
        await settle()
        assert not server.peer.requests[1].body
        server.peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 600})
        server.peer.flush()
        await until(lambda: [len(one.body) for one in server.peer.requests.values()] == [600, 600])
        server.peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2000})
        server.peer.flush()
        assert await asyncio.gather(*calls) == [b"a" * 1000, b"b" * 1000]


async def test_a_window_that_a_setting_made_negative_must_be_made_up_for() -> None:
    async with Server.serving() as server:
        server.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 600}
        server.gives_room = False
        call = server.call(b"a" * 995)
        await until(lambda: server.peers and server.peer.requests and server.peer.requests[1].body)
        server.peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        server.peer.flush()
        server.peer.h2.ping(b"12345678")
        server.peer.flush()
        await until(lambda: server.peer.h2.remote_flow_control_window(1) == -500)
        server.peer.h2.increment_flow_control_window(500, 1)
        server.peer.flush()
        await settle()
        assert len(server.peer.requests[1].body) == 600
        server.peer.h2.increment_flow_control_window(400, 1)
        server.peer.flush()
        assert await call == b"a" * 995


async def test_windows_of_one_byte_carry_a_message() -> None:
    async with Server.serving() as server:
        server.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 1}
        assert await asyncio.gather(*map(server.call, (b"hello", b"you"))) == [b"hello", b"you"]


async def test_larger_frames_are_used_where_the_server_takes_them() -> None:
    async with Server.serving() as server:
        server.settings = {
            SettingCodes.MAX_FRAME_SIZE: 2**24 - 1,
            SettingCodes.INITIAL_WINDOW_SIZE: 2**24,
        }
        assert await server.call(BIG) == BIG


async def test_what_a_cancelled_call_did_not_send_takes_no_room_from_others() -> None:
    async with Server.serving() as server:
        server.gives_room = False
        first = server.call(BIG)
        await until(lambda: server.peers and server.peer.requests and server.peer.requests[1].body)
        await until(lambda: len(server.peer.requests[1].body) == 65_535)
        first.cancel()
        await until(lambda: server.peer.requests[1].reset == 8)
        second = server.call(b"hello")
        server.peer.h2.increment_flow_control_window(1_000_000)
        server.peer.flush()
        assert await second == b"hello"
        assert server.peer.requests[3].message == b"hello"


async def test_small_calls_pass_a_large_one_whose_stream_has_no_room() -> None:
    async with Server.serving() as server:
        server.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 10_000}
        server.gives_room = False
        large = server.call(bytes(20_000))
        assert await server.call(b"small") == b"small"
        server.peer.h2.increment_flow_control_window(20_000, 1)
        server.peer.flush()
        assert await large == bytes(20_000)


async def test_a_reply_before_the_request_was_sent_ends_the_sending() -> None:
    async with Server.serving() as server:
        server.gives_room = False

        call = server.call(BIG)
        await until(lambda: server.peers and server.peer.requests and server.peer.requests[1].body)
        server.peer.reply(1, b"\0\0\0\0\5early")
        assert await call == b"early"
        await until(lambda: server.peer.requests[1].reset == 0)
        _forgotten(server.peer)
        server.peer.h2.increment_flow_control_window(1_000_000)
        server.peer.flush()
        assert await server.call(b"next") == b"next"


def _forgotten(peer: Peer) -> None:
    connection = next(iter(peer.server.channel._connections))
    assert not connection._calls
    assert not connection._waiting
    assert not connection._sending.blocked


async def test_a_small_call_overtakes_large_ones_that_the_server_is_slow_to_read() -> None:
    async with Server.serving(Raw, max_request_bytes=64 * 1024 * 1024) as server:
        window = 2**31 - 1
        server.greeting = frames.settings(((frames.INITIAL_WINDOW_SIZE, window),)) + frames.frame(
            frames.WINDOW_UPDATE, 0, 0, (window - frames.WINDOW_BYTES).to_bytes(4, "big")
        )
        server.script = lambda raw, stream: raw.say(answered(stream))
        await server.call()
        server.raw.transport.pause_reading()
        large = [server.call(bytes(16_000_000)) for _ in range(2)]
        connection = server.channel._connection
        assert isinstance(connection, Connection)
        assert connection._sending.is_paused
        small = server.call(b"small")
        server.raw.transport.resume_reading()
        assert await small == b"ok"
        assert [call.done() for call in large] == [False, False]
        # They take turns: when one is whole, the other lacks no more than the system took of it at once.
        assert await asyncio.gather(*large) == [b"ok", b"ok"]
        sizes = dict.fromkeys((1, 3, 5, 7), 0)
        for kind, flags, stream, payload in server.raw.heard:
            if kind == frames.DATA:
                sizes[stream] += len(payload)
                if flags & frames.END_STREAM and stream in (3, 5):
                    break
        assert min(sizes[3], sizes[5]) > 16_000_000 // 2
