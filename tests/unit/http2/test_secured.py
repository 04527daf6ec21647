"""Connections over TLS, and files that are renewed at any moment."""

import asyncio
import ssl
from pathlib import Path

import pytest
from grpc import StatusCode

from gateway.backends import grpc_channel
from gateway.backends.channel_tls import ChannelTls
from gateway.http2 import frames
from gateway.security_settings import EndpointTlsSettings
from tests.certificates import Authority
from tests.fakes import settle, until
from tests.unit.http2.http2_rig import Peer, Raw, Server, echo, failure, goaway, silent


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    files = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture
def tls(authority: Authority) -> ChannelTls:
    return ChannelTls(EndpointTlsSettings(ca=str(authority.ca)), Path("/"), "t1")


async def test_a_message_of_megabytes_comes_back_over_tls(context: ssl.SSLContext, tls: ChannelTls) -> None:
    message = bytes(range(251)) * 12_000
    async with Server.serving(Peer, context, tls=tls) as server:
        assert await asyncio.gather(*(server.call(message) for _ in range(3))) == [message] * 3
        headers = server.peer.requests[1].headers
        assert headers[b":scheme"] == b"https"
        assert headers[b":authority"] == b"127.0.0.1:%d" % server.port


@pytest.mark.parametrize("offered", [None, ["http/1.1"]])
async def test_a_server_that_does_not_offer_http_2_is_not_reached(
    authority: Authority, tls: ChannelTls, offered: list[str] | None
) -> None:
    files = authority.issue("old")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if offered:
        context.set_alpn_protocols(offered)
    async with Server.serving(Raw, context, tls=tls) as server:
        code, text, was_sent = await failure(server.call())
        assert (code, was_sent) == (StatusCode.UNAVAILABLE, False)
        assert text.endswith("the server does not offer HTTP/2 (ALPN)")
        await until(lambda: not server.channel._connections)


async def test_a_server_in_the_clear_is_not_reached_over_tls(tls: ChannelTls) -> None:
    async with Server.serving(Raw, tls=tls) as server:
        server.greeting = b"no TLS"
        code, _, was_sent = await failure(server.call())
        assert (code, was_sent) == (StatusCode.UNAVAILABLE, False)


async def test_renewed_files_leave_calls_under_way_alone(context: ssl.SSLContext, tls: ChannelTls) -> None:
    async with Server.serving(Peer, context, tls=tls) as server:
        server.answer = silent
        under_way = server.call(b"old")
        await until(lambda: server.peers and server.whole())
        server.answer = echo
        tls.renewals += 1
        assert await server.call(b"new") == b"new"
        assert len(server.peers) == 2
        echo(server.peers[0], 1)
        assert await under_way == b"old"
        await until(lambda: server.peers[0].is_lost)
        assert not server.peers[1].is_lost


@pytest.mark.parametrize("turns", range(0, 20, 3))
async def test_files_that_are_renewed_while_connecting_are_used_and_no_call_is_lost(
    context: ssl.SSLContext, tls: ChannelTls, turns: int
) -> None:
    async with Server.serving(Peer, context, tls=tls) as server:
        first = server.call(b"first")
        for _ in range(turns):
            await asyncio.sleep(0)
        tls.renewals += 1
        second = server.call(b"second")
        assert [await first, await second] == [b"first", b"second"]
        await until(lambda: len(server.channel._connections) == 1)


async def test_renewed_files_do_not_open_a_closed_channel(context: ssl.SSLContext, tls: ChannelTls) -> None:
    async with Server.serving(Peer, context, tls=tls) as server:
        assert await server.call() == b"hello"
        await server.channel.aclose()
        tls.renewals += 1
        assert await failure(server.call()) == (StatusCode.UNAVAILABLE, "the channel is closed", False)


async def test_closing_ends_a_connection_over_tls_with_calls_under_way(
    context: ssl.SSLContext, tls: ChannelTls
) -> None:
    async with Server.serving(Peer, context, tls=tls) as server:
        server.answer = silent
        call = server.call()
        await until(lambda: server.peers and server.whole())
        await server.channel.aclose()
        assert (await failure(call))[0] is StatusCode.CANCELLED
        await until(lambda: server.peer.is_lost)


async def test_a_leaving_server_over_tls_may_go_on_speaking(context: ssl.SSLContext, tls: ChannelTls) -> None:
    async with Server.serving(Peer, context, tls=tls) as server:
        await server.call()
        old = server.peer
        old.say(goaway(1))
        for _ in range(20):
            old.say(frames.frame(frames.PING, 0, 0, bytes(8)))
            await settle()
        await until(lambda: old.is_lost)
        assert await server.call() == b"hello"


async def test_a_server_over_tls_that_goes_away_fails_its_calls(
    context: ssl.SSLContext, tls: ChannelTls
) -> None:
    async with Server.serving(Peer, context, tls=tls) as server:
        server.answer = silent
        for end in ("close", "abort"):
            call = server.call()
            await until(lambda: server.peers and not server.peer.is_lost and server.whole())
            getattr(server.peer.transport, end)()
            code, _, was_sent = await failure(call)
            assert (code, was_sent) == (StatusCode.UNAVAILABLE, True)
            await until(lambda: not server.channel._connections)


async def test_a_server_that_never_shakes_hands_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tls: ChannelTls
) -> None:
    monkeypatch.setattr(grpc_channel, "CONNECT_SECONDS", 0.1)
    async with Server.serving(Raw, tls=tls) as server:
        server.greeting = b""
        code, text, was_sent = await failure(server.call())
        assert (code, was_sent) == (StatusCode.UNAVAILABLE, False)
        assert text.endswith("TimeoutError")
        await until(lambda: server.raws and server.raw.is_lost)
