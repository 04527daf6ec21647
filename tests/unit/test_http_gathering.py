"""A body that comes in pieces, for who waits for all of it."""

import asyncio
from typing import Any

import pytest

from gateway.errors import BodyTooLarge, MalformedBody
from gateway.protocols.http_body import REST_OF_BODY, WHOLE_BODY, read_body
from tests.unit.http_rig import Transport, a_connection, settle

POST = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
PIECES = [bytes([number]) * 50_000 for number in range(10)]


class App:
    """Answers with the body, once `go_on` is set.

    Attributes:
        bodies: that it has waited for.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes | None] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        await self.go_on.wait()
        body = scope[WHOLE_BODY]() if WHOLE_BODY in scope else await scope[REST_OF_BODY]()
        self.bodies.append(body)
        body = body or b""
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def replies(transport: Transport) -> int:
    return b"".join(transport.written).count(b"HTTP/1.1 200 OK")


async def test_a_body_that_comes_in_pieces_is_waited_for_and_reading_goes_on() -> None:
    app = App()
    connection, transport = a_connection(app)
    body = b"".join(PIECES)
    connection.data_received(POST % len(body))
    await settle()
    for piece in PIECES:
        connection.data_received(piece)
    assert not transport.pauses
    await settle()
    assert app.bodies == [body]
    connection.data_received(POST % 2 + b"hi")
    await settle()
    assert app.bodies == [body, b"hi"]
    assert replies(transport) == 2


async def test_who_waits_for_a_body_whose_sender_leaves_is_told() -> None:
    app = App()
    connection, _ = a_connection(app)
    connection.data_received(POST % 9 + b"1234")
    await settle()
    assert not app.bodies
    connection.connection_lost(None)
    await settle()
    assert app.bodies == [None]


async def test_who_begins_to_wait_once_its_sender_has_left_is_told() -> None:
    app = App()
    app.go_on.clear()
    connection, _ = a_connection(app)
    connection.data_received(POST % 9 + b"1234")
    await settle()
    connection.connection_lost(None)
    app.go_on.set()
    await settle()
    assert app.bodies == [None]


async def test_who_waits_for_a_body_tells_its_sender_to_send_it() -> None:
    app = App()
    connection, transport = a_connection(app)
    connection.data_received((POST % 2).replace(b"host", b"expect: 100-continue\r\nhost"))
    await settle()
    assert transport.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    connection.data_received(b"hi")
    await settle()
    assert app.bodies == [b"hi"]


async def test_the_rest_of_a_body_that_nobody_waits_for_any_more_is_not_held() -> None:
    async def late(scope: Any, _: Any, send: Any) -> None:
        if WHOLE_BODY not in scope:
            scope[REST_OF_BODY]().cancel()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    connection, transport = a_connection(late)
    connection.data_received(POST % 4 + b"1")
    await settle()
    connection.data_received(b"23")
    assert not connection._pieces
    connection.data_received(b"4" + POST % 2 + b"hi")
    await settle()
    assert replies(transport) == 2


async def test_a_body_that_came_behind_another_request_is_whole_once_it_is_waited_for() -> None:
    app = App()
    app.go_on.clear()
    connection, transport = a_connection(app)
    connection.data_received(POST % 2 + b"hi" + POST % 6 + b"123")
    app.go_on.set()
    await settle()
    connection.data_received(b"456" + POST % 2 + b"ho")
    await settle()
    assert app.bodies == [b"hi", b"123456", b"ho"]
    assert replies(transport) == 3


async def no_receive() -> Any:
    raise AssertionError("the connection waits for the body")


def a_scope(body: bytes | None) -> dict[str, Any]:
    gathered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
    gathered.set_result(body)
    return {REST_OF_BODY: lambda: gathered}


async def test_a_body_is_waited_for_by_its_connection_where_that_can() -> None:
    headers = {b"content-length": b"2"}
    assert await read_body(a_scope(b"hi"), no_receive, headers, 2) == b"hi"
    with pytest.raises(MalformedBody, match="closed the connection before the body was complete"):
        await read_body(a_scope(None), no_receive, headers, 2)
    with pytest.raises(BodyTooLarge):
        await read_body({}, no_receive, headers, 1)


async def test_a_body_of_unknown_length_is_read_piece_by_piece() -> None:
    messages = [
        {"type": "http.request", "body": b"h", "more_body": True},
        {"type": "http.request", "body": b"i"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    assert await read_body(a_scope(b"no"), receive, {b"transfer-encoding": b"chunked"}, 2) == b"hi"
