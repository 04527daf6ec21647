"""The channel to a model server: what goes along with a message, and how a new address is found."""

import asyncio
import gc
import socket
import time
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import grpc
import pytest

from gateway.backends.grpc_channel import VANISHED_SECONDS, GrpcChannel
from gateway.http2.call import CallFailed
from gateway.request_id import TRACE_METADATA, bind_request_id
from tests.fakes import settle

PATH = "/inferway.test.Echo/Answer"


class _Server(grpc.GenericRpcHandler):
    """Echoes, and keeps the metadata of the last call."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        self.metadata = dict(details.invocation_metadata or ())
        return grpc.unary_unary_rpc_method_handler(
            self._never if details.method.endswith("/Wait") else self._answer
        )

    async def _never(self, _: bytes, __: Any) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def _answer(self, message: bytes, _: Any) -> bytes:
        return message


async def _started(handler: grpc.GenericRpcHandler) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def test_a_call_for_a_request_has_its_id_and_its_trace_and_any_other_has_none() -> None:
    handler, server = _Server(), grpc.aio.server()
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{port}", max_request_bytes=1000)

    async def for_a_request() -> None:
        bind_request_id("one")
        TRACE_METADATA.set((("traceparent", "00-a-b-01"), ("tracestate", "v=1")))
        await ask()

    async def ask() -> None:
        assert await channel.method(PATH)(b"hello", timeout=5.0)

    await asyncio.create_task(for_a_request())
    sent = {key: handler.metadata.get(key) for key in ("x-request-id", "traceparent", "tracestate")}
    assert sent == {"x-request-id": "one", "traceparent": "00-a-b-01", "tracestate": "v=1"}
    await asyncio.create_task(ask())
    assert not {"x-request-id", "traceparent", "tracestate"} & handler.metadata.keys()
    await channel.aclose()
    await server.stop(None)


async def test_a_server_that_comes_back_at_another_address_is_found_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, port = await _started(_Server())
    loop = asyncio.get_running_loop()
    address = "127.0.0.2"  # where nobody listens

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "engine.test"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    channel = GrpcChannel(f"engine.test:{port}", max_request_bytes=1000)

    async def answers() -> bool:
        try:
            return bool(await channel.method(PATH)(b"hello", timeout=5.0))
        except CallFailed:
            return False

    assert not await answers()
    address = "127.0.0.1"
    moved = time.monotonic()
    while not await answers():
        assert time.monotonic() - moved < 15.0
        await asyncio.sleep(0.1)
    await channel.aclose()
    await server.stop(None)


async def test_a_connection_outlives_what_belongs_to_the_request_that_it_was_made_for() -> None:
    class Span:
        """What a request's tasks share."""

    span: ContextVar[Span] = ContextVar("span")
    server, port = await _started(_Server())
    channel = GrpcChannel(f"127.0.0.1:{port}", max_request_bytes=1000)

    async def for_a_request() -> weakref.ref[Span]:
        span.set(Span())
        assert await channel.method(PATH)(b"hello", timeout=None)
        return weakref.ref(span.get())

    kept = await asyncio.create_task(for_a_request())
    await settle()
    gc.collect(1)
    assert kept() is None
    await channel.aclose()
    await server.stop(None)


@pytest.mark.parametrize("end", ["cancelled", "expired", "failed", "answered"])
async def test_an_ended_call_leaves_nothing_behind_in_the_channel(end: str) -> None:
    handler, server = _Server(), grpc.aio.server()
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{port}", max_request_bytes=1000)
    assert await channel.method(PATH)(b"hello", timeout=5.0) == b"hello"
    path = "/inferway.test.Echo/Wait" if end in {"cancelled", "expired"} else PATH
    message = bytes(200_000) if end == "failed" else b"hello"  # a reply beyond the limit
    reply = channel.method(path)(message, timeout=0.05 if end == "expired" else 5.0)
    kept = weakref.ref(reply)
    if end == "cancelled":
        await settle()
        reply.cancel()
    with suppress(CallFailed, asyncio.CancelledError):
        await reply
    del reply
    await settle()
    gc.collect(1)
    assert kept() is None
    (connection,) = channel._connections
    assert not connection._calls
    await channel.aclose()
    await server.stop(None)


async def test_a_name_with_several_addresses_is_reached_at_the_first_that_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, port = await _started(_Server())
    ips = ["127.0.0.2", "127.0.0.1", "127.0.0.3"]

    async def look_up(_: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ips]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    channel = GrpcChannel(f"engine.test:{port}", max_request_bytes=1000)
    assert await channel.method(PATH)(b"hello", timeout=5.0) == b"hello"
    await channel.aclose()
    await server.stop(None)

    ips.clear()
    channel = GrpcChannel(f"engine.test:{port}", max_request_bytes=1000)
    with pytest.raises(CallFailed, match=r"no address for engine\.test"):
        await channel.method(PATH)(b"hello", timeout=5.0)
    await channel.aclose()


async def test_a_name_that_is_never_looked_up_does_not_hold_a_call_beyond_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(*_: Any, **__: Any) -> list[Any]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    channel = GrpcChannel("engine.test:1", max_request_bytes=1000)
    with pytest.raises(CallFailed, match="DEADLINE_EXCEEDED"):
        await channel.method(PATH)(b"hello", timeout=0.05)
    assert not channel._waiting
    await channel.aclose()


async def test_the_system_asks_an_idle_server_whether_it_is_there_and_waits_for_no_vanished_one() -> None:
    server, port = await _started(_Server())
    channel = GrpcChannel(f"127.0.0.1:{port}", max_request_bytes=1000)
    await channel.method(PATH)(b"hello", timeout=5.0)
    (connection,) = channel._connections
    connected = connection._transport.get_extra_info("socket")
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    timeout_ms = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert timeout_ms == VANISHED_SECONDS * 1000
    await channel.aclose()
    await server.stop(None)
