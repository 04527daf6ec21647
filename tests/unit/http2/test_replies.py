"""What a call comes to, by what the server answers."""

import asyncio

import pytest
from grpc import StatusCode

from gateway.http2 import frames
from gateway.http2.frames import frame, header
from tests.fakes import until
from tests.unit.http2.http2_rig import (
    Raw,
    Server,
    answered,
    block,
    data,
    enveloped,
    failure,
    headers,
    opening,
    trailers,
)

HTML = b"<html>no server is free</html>"
ENDS = frames.END_HEADERS | frames.END_STREAM


async def fails(said: bytes, limit: int = 1000) -> tuple[StatusCode, str]:
    """How a call fails that is answered with these bytes.

    A call after it must succeed, on the same connection: what one call is answered harms no other.
    """
    async with Server.serving(Raw, max_request_bytes=limit) as server:
        server.script = lambda raw, stream: raw.say(said if stream == 1 else answered(stream))
        code, details, was_sent = await failure(server.call())
        assert was_sent
        assert await server.call() == b"ok"
        assert len(server.raws) == 1
        return code, details


async def answers(said: bytes) -> bytes:
    async with Server.serving(Raw) as server:
        server.script = lambda raw, stream: raw.say(said if stream == 1 else answered(stream))
        reply = await server.call()
        assert await server.call() == b"ok"
        assert len(server.raws) == 1
        return reply


async def test_an_answer_of_trailers_alone_is_a_failure_with_the_servers_text() -> None:
    pairs = ((":status", "200"), ("grpc-status", "5"), ("grpc-message", "no %25 m%C3%B6del%0A%zz%ff"))
    assert await fails(headers(1, *pairs, flags=ENDS)) == (StatusCode.NOT_FOUND, "no % mödel\n%zz�")


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_every_status_of_grpc_is_told(code: StatusCode) -> None:
    status = ("grpc-status", str(code.value[0]))
    assert await fails(opening(1) + trailers(1, status, ("grpc-message", "why"))) == (code, "why")


@pytest.mark.parametrize("status", ["17", "-1", "x", "", "00"])
async def test_a_status_that_grpc_has_not_is_unknown(status: str) -> None:
    said = opening(1) + trailers(1, ("grpc-status", status))
    assert await fails(said) == (StatusCode.UNKNOWN, "")


@pytest.mark.parametrize(
    ("http", "code"),
    [
        ("400", StatusCode.INTERNAL),
        ("401", StatusCode.UNAUTHENTICATED),
        ("403", StatusCode.PERMISSION_DENIED),
        ("404", StatusCode.UNIMPLEMENTED),
        ("418", StatusCode.UNKNOWN),
        ("429", StatusCode.UNAVAILABLE),
        ("500", StatusCode.UNKNOWN),
        ("502", StatusCode.UNAVAILABLE),
        ("503", StatusCode.UNAVAILABLE),
        ("504", StatusCode.UNAVAILABLE),
    ],
)
async def test_a_proxys_page_is_told_by_its_http_status(http: str, code: StatusCode) -> None:
    text = f"the server answered with HTTP status {http}"
    head = (":status", http), ("content-type", "text/html")
    assert await fails(headers(1, *head) + data(1, HTML, frames.END_STREAM)) == (code, text)
    assert await fails(headers(1, *head, flags=ENDS)) == (code, text)


async def test_an_end_without_a_grpc_status_is_a_failure() -> None:
    body = data(1, enveloped(b"ok"), frames.END_STREAM)
    text = "the server answered without a gRPC status"
    assert await fails(opening(1) + body) == (StatusCode.UNKNOWN, text)
    assert await fails(opening(1) + trailers(1, ("x", "y"))) == (StatusCode.UNKNOWN, text)
    assert await fails(headers(1, (":status", "200"), flags=ENDS)) == (StatusCode.UNKNOWN, text)


async def test_a_compressed_message_is_a_failure() -> None:
    code, text = await fails(opening(1) + data(1, b"\1\0\0\0\1x") + trailers(1))
    assert code is StatusCode.INTERNAL
    assert "compressed" in text


async def test_a_message_beyond_the_limit_is_refused_before_it_has_come() -> None:
    largest = 1000 + 64 * 1024
    assert await fails(opening(1) + data(1, b"\0" + (largest + 1).to_bytes(4, "big")), 1000) == (
        StatusCode.RESOURCE_EXHAUSTED,
        f"Received message larger than max ({largest + 1} vs. {largest})",
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0",
        enveloped(b"hello")[:-1],
        enveloped(b"hello") + b"\0",
        enveloped(b"hello") + enveloped(b"again"),
    ],
)
async def test_ok_with_anything_but_one_message_is_a_failure(body: bytes) -> None:
    assert (await fails(opening(1) + data(1, body) + trailers(1)))[0] is StatusCode.INTERNAL


async def test_a_message_in_pieces_of_one_byte_is_one() -> None:
    pieces = (data(1, bytes((byte,))) for byte in enveloped(b"hello"))
    assert await answers(opening(1) + b"".join(pieces) + trailers(1)) == b"hello"


async def test_pieces_without_a_byte_are_not_kept() -> None:
    async with Server.serving(Raw) as server:
        said = opening(1) + data(1, enveloped(b"hello")) + data(1, b"") * 1000
        server.script = lambda raw, _: raw.say(said, frame(frames.PING, 0, 0, b"12345678"))
        reply = server.call()
        await until(lambda: server.raws and server.raw.kinds(frames.PING))
        (connection,) = server.channel._connections
        assert connection._calls[1]._pieces == [b"hello"]
        server.raw.say(trailers(1))
        assert await reply == b"hello"


async def test_padding_priority_and_continuation_change_nothing() -> None:
    padded, prioritised = frames.PADDED, frames.PRIORITISED
    pairs = block((":status", "200"), ("content-type", "application/grpc"), ("x", "y" * 300))
    begun = frame(frames.HEADERS, padded | prioritised, 1, b"\3\0\0\0\0\0" + pairs[:100] + bytes(3))
    going_on = frame(frames.CONTINUATION, 0, 1, pairs[100:200]) + frame(frames.CONTINUATION, 0, 1, b"")
    ended = frame(frames.CONTINUATION, frames.END_HEADERS, 1, pairs[200:])
    body = data(1, b"\5" + enveloped(b"hello") + bytes(5), padded)
    last = frame(frames.HEADERS, ENDS | padded, 1, b"\1" + header("grpc-status", "0") + b"\0")
    assert await answers(begun + going_on + ended + body + last) == b"hello"


async def test_informational_headers_go_before_the_answer() -> None:
    informational = headers(1, (":status", "103"), ("link", "x")) + headers(1, (":status", "100"))
    assert await answers(informational + answered(1, b"hello")) == b"hello"


async def test_frames_of_unknown_kinds_and_of_ended_streams_are_ignored() -> None:
    unknown = (
        frame(0xBE, 0xFF, 1, b"whatever") + frame(0x20, 0, 0, b"") + frame(frames.PRIORITY, 0, 1, bytes(5))
    )
    ended = frame(frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\1") + frame(frames.RST_STREAM, 0, 1, bytes(4))
    late = data(1, b"late") + trailers(1)
    assert await answers(unknown + answered(1, b"hello") + ended + late) == b"hello"


async def test_dates_that_differ_in_a_thousand_answers_fill_no_memory() -> None:
    def dated(raw: Raw, stream: int) -> None:
        head = headers(stream, (":status", "200"), ("date", str(stream)))
        raw.say(head, data(stream, enveloped(b"%d" % stream)), trailers(stream))

    async with Server.serving(Raw) as server:
        server.script = dated
        for number in range(1000):
            assert await server.call() == b"%d" % (2 * number + 1)
        (connection,) = server.channel._connections
        assert len(connection._headers._known) <= 256


async def test_a_conversation_byte_by_byte_is_the_same() -> None:
    def slowly(raw: Raw, stream: int) -> None:
        for byte in answered(stream, b"hello"):
            raw.say(bytes((byte,)))

    async with Server.serving(Raw) as server:
        server.script = slowly
        calls = [server.call() for _ in range(3)]
        assert await asyncio.gather(*calls) == [b"hello"] * 3


async def test_a_ping_is_answered_and_an_answer_is_not() -> None:
    async with Server.serving(Raw) as server:
        server.script = lambda raw, stream: raw.say(
            frame(frames.PING, frames.ACK, 0, b"answered"),
            frame(frames.PING, 0, 0, b"a ping 1"),
            answered(stream),
        )
        await server.call()
        server.script = lambda raw, stream: raw.say(answered(stream))
        await server.call()
        assert server.raw.kinds(frames.PING) == [(frames.PING, frames.ACK, 0, b"a ping 1")]
