"""What a connection may cost, against a real socket: heads that never end, bodies nobody reads, upgrades."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from gateway import http_connection
from gateway.http_connection import HEAD_LIMIT_BYTES, HttpConnection
from gateway.protocols.http_body import WHOLE_BODY
from gateway.protocols.http_reply import WHOLE_REPLY

KEEP_ALIVE_SECONDS = 1
HEAD = b"POST /x HTTP/1.1\r\nhost: x\r\n"
FULL = HEAD + b"content-length: 2\r\n\r\nhi"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it got: whether all of it came at once, method, headers, body (not on /refused).

    On /at-once it takes and gives all in one step, and says whether it is in a task; on /slow it waits first.
    """
    if scope["path"] == "/slow":
        await asyncio.sleep(0.05)
    if scope["path"] == "/at-once":
        body = scope[WHOLE_BODY]() + (b" at once" if asyncio.current_task() is None else b" in a task")
        if scope[WHOLE_REPLY](b"content-length: %d\r\nx-whole: 1\r\n" % len(body), body):
            return
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    start = b"whole " if WHOLE_BODY in scope else b"head "
    body = b""
    more = scope["path"] != "/refused"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = b",".join(name for name, _ in scope["headers"])
    content = start + b"|".join((scope["method"].encode(), names, body))
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture
async def server() -> AsyncIterator[uvicorn.Server]:
    """The echo, which listens."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        echo,
        http=HttpConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    yield server
    server.should_exit = True
    await server.shutdown(sockets=[listener])


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    """Where it listens."""
    address: tuple[str, int] = server.servers[0].sockets[0].getsockname()
    return address[1]


async def exchange(port: int, *parts: bytes, half_close: bool = False) -> bytes:
    """All that comes back until the server closes, or is silent for half a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if half_close:
            writer.write_eof()
        got = b""
        async with asyncio.timeout(5):
            while chunk := await asyncio.wait_for(reader.read(65536), 0.5):
                got += chunk
        return got + b"<closed>"
    except (ConnectionError, TimeoutError) as error:
        return got + f"<{type(error).__name__}>".encode() if isinstance(error, TimeoutError) else b"<reset>"
    finally:
        writer.transport.abort()


async def test_a_request_line_or_header_without_end_is_refused(port: int) -> None:
    for flood in (b"GET /" + b"a" * HEAD_LIMIT_BYTES, HEAD + b"a: " + b"b" * HEAD_LIMIT_BYTES):
        assert (await exchange(port, flood)).startswith(b"HTTP/1.1 431 ")


async def test_headers_without_number_are_refused(port: int) -> None:
    reply = await exchange(port, HEAD + b"a:b\r\n" * (HEAD_LIMIT_BYTES // 5))
    assert reply.startswith(b"HTTP/1.1 431 ")


async def test_a_head_of_nearly_the_limit_is_taken(port: int) -> None:
    padding = b"a: " + b"b" * (HEAD_LIMIT_BYTES - 200) + b"\r\n"
    assert (await exchange(port, HEAD + padding + b"content-length: 2\r\n\r\nhi")).startswith(
        b"HTTP/1.1 200 "
    )


@pytest.mark.parametrize("start", [b"0\r\n", b"1;"], ids=["trailers", "chunk_extension"])
async def test_a_chunked_body_that_says_nothing_for_long_ends_the_connection(port: int, start: bytes) -> None:
    flood = b"a: b\r\n" if start == b"0\r\n" else b"abcdef"
    parts = [flood * 4000] * 8
    got = await exchange(port, HEAD + b"transfer-encoding: chunked\r\n\r\n" + start, *parts)
    assert got == b"<reset>" or got.startswith(b"HTTP/1.1 431 ")


async def test_trailers_are_taken_and_reach_nobody(port: int) -> None:
    body = b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-secret: 1\r\n\r\n"
    assert b"POST|host,transfer-encoding|hi" in await exchange(port, HEAD + body)


async def test_a_head_that_takes_too_long_ends_the_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.2)
    assert await exchange(port) == b"<closed>"
    assert await exchange(port, HEAD) == b"<closed>"
    again = await exchange(port, HEAD + b"content-length: 2\r\n\r\nhi", HEAD)
    assert (again[:13], again[-8:]) == (b"HTTP/1.1 200 ", b"<closed>")


async def test_the_rest_of_a_refused_body_is_read_for_some_time_only(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "UNREAD_SECONDS", 0.2)
    head = HEAD.replace(b"/x", b"/refused") + b"content-length: 100\r\n\r\n"
    assert (await exchange(port, head)).endswith(b"POST|host,content-length|<closed>")
    then = await exchange(port, head + b"x" * 100, HEAD + b"content-length: 2\r\n\r\nhi")
    assert then.count(b"HTTP/1.1 200 ") == 2


async def test_a_caller_that_looks_at_the_reply_when_all_is_sent_finds_it(port: int) -> None:
    size = 64 * 1024 * 1024
    head = HEAD.replace(b"/x", b"/refused") + b"content-length: %d\r\n\r\n" % size

    def send_all_and_look() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
            caller.sendall(head + bytes(size))
            return caller.recv(1024)

    assert (await asyncio.to_thread(send_all_and_look)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_", "later"),
    [
        (FULL, b"\r\n"),
        (HEAD.replace(b"/x", b"/refused") + b"content-length: 3\r\n\r\n", b"abc"),
    ],
    ids=["line_ends_between_requests", "rest_of_a_refused_body"],
)
async def test_bytes_that_begin_no_request_do_not_keep_a_connection_open_for_ever(
    port: int, request_: bytes, later: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_)
    assert (await reader.read(65536)).startswith(b"HTTP/1.1 200 ")
    writer.write(later)
    async with asyncio.timeout(3 * KEEP_ALIVE_SECONDS):
        assert await reader.read() == b""
    writer.close()


async def test_a_caller_that_offers_an_upgrade_with_each_of_many_requests_at_once_is_answered(
    port: int,
) -> None:
    offer = HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi"
    assert (await exchange(port, offer * 600)).count(b"HTTP/1.1 200 ") == 600


async def test_garbage_behind_a_request_does_not_pass_for_its_answer(port: int) -> None:
    assert not (await exchange(port, FULL + b"\x16\x03\x01")).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
async def test_an_offer_to_upgrade_is_ignored_and_the_body_kept(port: int, offer: bytes) -> None:
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: " + offer + b"\r\nhttp2-settings: AA\r\n"
    whole = HEAD + upgrade + b"content-length: 5\r\n\r\n"
    for parts in ([whole + b"hello"], [whole, b"hel", b"lo"], [whole + b"hello" + HEAD + b"\r\n"]):
        reply = await exchange(port, *parts)
        assert b"POST|host,connection,http2-settings,content-length|hello" in reply


async def test_a_request_knows_whether_its_whole_body_came_with_its_head(port: int) -> None:
    head = HEAD + b"content-length: 2\r\n\r\n"
    assert b"whole POST|" in await exchange(port, head + b"hi")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in (head, b"hi"):
        writer.write(part)
        await asyncio.sleep(0.05)
    assert b"head POST|" in await reader.read(65536)
    writer.close()


async def test_connect_is_refused(port: int) -> None:
    assert (await exchange(port, b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_a_caller_that_has_sent_all_gets_its_answer_and_the_connection_ends(port: int) -> None:
    reply = await exchange(port, HEAD + b"content-length: 2\r\n\r\nhi", half_close=True)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b"|hi<closed>")


async def test_a_caller_that_leaves_in_the_middle_of_its_body_gets_none(port: int) -> None:
    assert await exchange(port, HEAD + b"content-length: 9\r\n\r\nhi", half_close=True) == b"<closed>"


async def test_what_is_not_http_is_refused(port: int) -> None:
    assert (await exchange(port, b"\x16\x03\x01\x02\x00")).startswith(b"HTTP/1.1 400 ")


async def test_a_request_that_is_on_its_way_when_the_gateway_ends_is_answered_as_the_last(
    server: uvicorn.Server, port: int
) -> None:
    request = HEAD + b"content-length: 2\r\n\r\nhi"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    first = await reader.readuntil(b"|hi")
    for connection in list(server.server_state.connections):
        connection.shutdown()
    writer.write(request)
    last = await asyncio.wait_for(reader.read(), 5)  # until it is closed
    writer.close()
    assert b"connection: close" not in first
    assert last.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in last
    assert last.endswith(b"|hi")


async def test_a_connection_without_a_request_ends_soon_after_the_gateway_does(
    server: uvicorn.Server, port: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await exchange(port, b"GARBAGE\r\n\r\n")  # the server has seen the other one by now
    for connection in list(server.server_state.connections):
        connection.shutdown()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


AT_ONCE, SLOW = FULL.replace(b"/x", b"/at-once"), FULL.replace(b"/x", b"/slow")


async def test_a_request_that_waits_for_nothing_is_answered_without_a_task_again_and_again(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(AT_ONCE)
        reply = await reader.readuntil(b" at once")
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: 10\r\nx-whole: 1\r\n\r\nhi at once" in reply
    async with asyncio.timeout(3 * KEEP_ALIVE_SECONDS):
        assert await reader.read() == b""
    writer.close()


async def test_a_caller_that_wants_no_further_request_is_told_that_this_was_the_last(port: int) -> None:
    reply = await exchange(port, AT_ONCE.replace(b"host: x", b"host: x\r\nconnection: close"))
    assert b"connection: close\r\n" in reply
    assert reply.endswith(b"\r\n\r\nhi at once<closed>")


async def test_pipelined_requests_are_answered_in_their_order(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(AT_ONCE + SLOW + AT_ONCE + FULL)
    for end in (b"hi at once", b"|hi", b"hi in a task", b"|hi"):
        assert (await reader.readuntil(end)).count(b"HTTP/1.1 200 ") == 1
    writer.close()
