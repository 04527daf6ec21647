"""Calls that outlive those who made them, over a real channel."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from gateway.backends.grpc_channel import GrpcChannel, Method
from gateway.backends.unbroken_calls import UnbrokenCalls
from gateway.http2.call import CallFailed
from tests.fakes import settle, until

PATH = "/inferway.test.Echo/Answer"


class Echo(grpc.GenericRpcHandler):
    """Answers what it was sent, once it may; counts how its calls ended."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.begun = self.answered = self.cancelled = 0

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, message: bytes, context: Any) -> bytes:
        self.begun += 1
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if message == b"fail":
            await context.abort(grpc.StatusCode.INTERNAL, "told to")
        self.answered += 1
        return message


Rig = tuple[Echo, Method]


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    echo, server = Echo(), grpc.aio.server()
    server.add_generic_rpc_handlers([echo])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{port}", max_request_bytes=1000)
    yield echo, channel.method(PATH)
    await channel.aclose()
    await server.stop(None)


async def abandon(calls: UnbrokenCalls, rig: Rig, message: bytes = b"hello") -> None:
    """Make a call, and leave once the server has it."""
    echo, ask = rig
    waiting = asyncio.ensure_future(calls(ask(message)))
    await until(lambda: echo.begun == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_call_is_answered_or_fails_as_any_other(rig: Rig) -> None:
    echo, ask = rig
    echo.may_answer.set()
    calls = UnbrokenCalls(lambda _: None)
    assert await calls(ask(b"hello")) == b"hello"
    with pytest.raises(CallFailed) as raised:
        await calls(ask(b"fail"))
    assert (raised.value.code, raised.value.details) == (grpc.StatusCode.INTERNAL, "told to")


async def test_a_caller_who_leaves_does_not_end_the_call(rig: Rig) -> None:
    echo, _ = rig
    calls = UnbrokenCalls(lambda _: None)
    await abandon(calls, rig)
    await settle()
    echo.may_answer.set()
    await until(lambda: echo.answered == 1)
    assert echo.cancelled == 0


async def test_a_caller_who_leaves_at_once_does_not_either(rig: Rig) -> None:
    echo, ask = rig
    echo.may_answer.set()
    waiting = asyncio.ensure_future(UnbrokenCalls(lambda _: None)(ask(b"hello")))
    await asyncio.sleep(0)
    waiting.cancel()
    await until(lambda: echo.answered == 1)
    assert echo.cancelled == 0


@pytest.mark.parametrize("message", [b"hello", b"fail"])
async def test_closing_waits_for_a_call_whose_caller_has_left(rig: Rig, message: bytes) -> None:
    echo, _ = rig
    calls = UnbrokenCalls(lambda _: None)
    await abandon(calls, rig, message)
    closing = asyncio.ensure_future(calls.aclose())
    await settle()
    assert not closing.done()
    echo.may_answer.set()
    await closing
    assert echo.cancelled == 0
    await calls.aclose()  # nothing is left to wait for


async def test_a_caller_who_leaves_before_a_call_was_sent_ends_it() -> None:
    channel = GrpcChannel("127.0.0.1:1", max_request_bytes=1000)
    calls = UnbrokenCalls(channel.withdraw)
    waiting = asyncio.ensure_future(calls(channel.method(PATH)(b"hello")))
    await asyncio.sleep(0)
    assert len(channel._waiting) == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert not channel._waiting
    await channel.aclose()


async def test_a_failed_call_keeps_nothing_of_its_request() -> None:
    class Request:
        """What a caller's frame holds."""

    channel = GrpcChannel("127.0.0.1:1", max_request_bytes=1000)  # where nobody listens
    calls = UnbrokenCalls(channel.withdraw)

    async def ask() -> "weakref.ref[Request]":
        request = Request()
        with pytest.raises(CallFailed):
            await calls(channel.method(PATH)(b"hello", timeout=5.0))
        return weakref.ref(request)

    gc.disable()
    try:
        request = await ask()
        await settle()
        assert request() is None
    finally:
        gc.enable()
    await channel.aclose()
