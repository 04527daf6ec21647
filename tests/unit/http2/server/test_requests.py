"""What is no call of gRPC's, or asks for what there is not, is answered as its specification says."""

import asyncio

import pytest
from grpc import StatusCode

from gateway.http2 import frames
from gateway.http2.frames import frame, header
from gateway.http2.request_head import Head, Malformed, read_head
from gateway.protocols.grpc_methods import Context, Failed, Method
from tests.grpc_serving import GrpcServing
from tests.unit.http2.server.server_rig import (
    ECHO,
    HEADERS,
    WAIT,
    Client,
    call,
    data,
    enveloped,
    opening,
    raw,
)


def head(*changes: tuple[str, str]) -> Head:
    new = {**dict(HEADERS), **dict(changes)}
    return read_head([(name.encode(), value.encode()) for name, value in new.items()])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((":method", "GET"), "405"),
        ((":method", "PUT"), "405"),
        (("content-type", "text/html"), "415"),
        (("content-type", ""), "415"),
        (("content-type", "application/grpc-web"), "415"),
    ],
)
async def test_what_is_no_grpc_is_told_so_in_http(change: tuple[str, str], status: str) -> None:
    async with raw(call(1, b"", change)) as (_, client):
        await client.until(lambda: client.is_ended(1))
        assert client.trailers(1) == b"\x20" + header(":status", status)


@pytest.mark.parametrize(
    "kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"]
)
async def test_every_content_type_of_grpc_is_one(kind: str) -> None:
    async with raw(call(1, b"x", ("content-type", kind))) as (_, client):
        assert await client.answered(1) == b"x"


async def test_an_encoding_that_is_not_known_is_refused_with_those_that_are() -> None:
    async with raw(call(1, b"x", ("grpc-encoding", "br"))) as (_, client):
        await client.until(lambda: client.is_ended(1))
        said = client.trailers(1)
    assert header("grpc-status", "12") in said
    assert header("grpc-accept-encoding", "identity,deflate,gzip") in said


@pytest.mark.parametrize(
    ("message", "change", "status"),
    [
        (b"\1\0\0\0\1x", ("a", "b"), "13"),  # compressed, and nobody said how
        (b"\1\0\0\0\1x", ("grpc-encoding", "gzip"), "3"),
        (b"\7\0\0\0\1x", ("a", "b"), "13"),
        (b"\0\0\0\0\5x", ("a", "b"), "13"),
        (b"\0\0", ("a", "b"), "13"),
        (b"", ("a", "b"), "12"),
        (enveloped(b"x") * 2, ("a", "b"), "12"),
        (b"\0\xff\xff\xff\xffx", ("a", "b"), "8"),
        (enveloped(b"x"), ("grpc-timeout", "soon"), "13"),
    ],
)
async def test_a_call_that_is_malformed_has_a_status(
    message: bytes, change: tuple[str, str], status: str
) -> None:
    async with raw(opening(1, change), data(1, message), call(3)) as (_, client):
        await client.until(lambda: client.is_ended(1))
        assert header("grpc-status", status) in client.trailers(1)
        assert await client.answered(3) == b"hello"


@pytest.mark.parametrize(
    ("text", "seconds"), [("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 0.004), ("5u", 5e-6), ("6n", 6e-9)]
)
def test_every_unit_of_a_timeout_is_known(text: str, seconds: float) -> None:
    assert head(("grpc-timeout", text)).timeout_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "S", "-1S", "123456789S", "1 S", "1.5S", "1s"])
def test_what_is_no_timeout_is_refused(text: str) -> None:
    refusal = head(("grpc-timeout", text)).refusal
    assert refusal is not None
    assert refusal.code is StatusCode.INTERNAL


@pytest.mark.parametrize("text", ["-1", "-1x", "", "9" * 19, "9" * 5000])
def test_a_length_that_is_no_number_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        head(("content-length", text))


async def test_whatever_an_answer_says_is_sent_in_a_form_that_clients_take() -> None:
    async def odd(_: bytes, __: Context) -> bytes:
        raise Failed(StatusCode.NOT_FOUND, "lone \ud800 \n", (("a", "line\nend"), ("b", "ü")))

    async with GrpcServing({ECHO: Method(odd)}) as server:
        client = await Client.to(server.address, call(1), call(3, b"", ("grpc-encoding", "x" * 9000)))
        await client.until(lambda: client.is_ended(1) and client.is_ended(3))
        for pair in (("grpc-message", "lone ? %0A"), ("a", "line%0Aend"), ("b", "%C3%BC")):
            assert header(*pair) in client.trailers(1)
        assert len(client.trailers(3)) < 1000
        await client.close()


async def test_calls_of_one_read_begin_together() -> None:
    async with raw(b"".join(call(stream, b"", (":path", WAIT)) for stream in range(1, 17, 2))) as (
        echo,
        client,
    ):
        await client.round_trip()
        assert len(echo.contexts) == 8
        echo.is_open.set()
        for stream in range(1, 17, 2):
            await client.answered(stream)


async def test_what_need_not_wait_takes_no_task() -> None:
    async with raw(call(1)) as (echo, client):
        await client.answered(1)
        client.say(opening(3))
        await client.round_trip()
        client.say(data(3, enveloped(b"later")))
        await client.answered(3)
        assert [task is None for task in echo.tasks] == [True, False]


async def test_a_broken_message_whose_caller_has_left_is_no_failure_of_the_loops() -> None:
    broken = b"\1" + enveloped(b"x" * 100_000)[1:]
    async with raw(message_bytes=200_000) as (_, client):  # what escapes fails the test, see conftest.py
        for stream in range(1, 21, 2):
            client.say(opening(stream, ("grpc-encoding", "gzip")), frames.window_update(stream, 1))
            client.say(
                *(data(stream, broken[at : at + 16_000], at > 88_000) for at in range(0, 100_005, 16_000))
            )
            await asyncio.sleep(0)
            client.say(frame(frames.RST_STREAM, 0, stream, bytes(4)))
        client.say(call(21))
        assert await client.answered(21) == b"hello"


async def test_a_handler_that_is_cancelled_from_within_ends_its_call_alone() -> None:
    async def cancelled(_: bytes, __: Context) -> bytes:
        raise asyncio.CancelledError

    async with GrpcServing({ECHO: Method(cancelled)}) as server:
        client = await Client.to(server.address, call(1), call(3, b"x", (":path", "/no/Such")))
        await client.until(lambda: client.is_ended(1) and client.is_ended(3))
        assert header("grpc-status", "1") in client.trailers(1)
        await client.close()


async def test_a_handler_that_breaks_ends_its_call_alone(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(_: bytes, __: Context) -> bytes:
        raise ZeroDivisionError("secret")

    async with GrpcServing({ECHO: Method(broken)}) as server:
        client = await Client.to(server.address, call(1), call(3, b"x", (":path", "/no/Such")))
        await client.until(lambda: client.is_ended(1) and client.is_ended(3))
        assert header("grpc-message", "internal error") in client.trailers(1)
        await client.close()
    assert "request_failed" in capsys.readouterr().out


async def test_a_call_answered_before_its_end_is_told_to_send_no_more() -> None:
    async with raw(opening(1, (":path", "/no/Such")), data(1, b"\0\0", 0)) as (_, client):
        assert await client.refused(1) == frames.NO_ERROR
        assert header("grpc-status", "12") in client.trailers(1)
        client.say(frame(frames.RST_STREAM, 0, 1, bytes(4)), call(3))
        assert await client.answered(3) == b"hello"
