"""A head that is known changes nothing: what comes of a connection's bytes is the same, whatever they are."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import http_connection, http_heads
from gateway.http_heads import HEAD_BYTES, KNOWN, MOST_HEADERS, Request, RequestHeads, split
from tests.unit.http_rig import a_connection, settle

POST = b"POST /x HTTP/1.1\r\nhost: x\r\nContent-Length: %d\r\n\r\n%b"
EMPTY = POST.replace(b"%d", b"").replace(b"%b", b"")
UPGRADE = POST.replace(b"\r\nh", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nh")
CLOSE = POST.replace(b"\r\nh", b"\r\nConnection: close\r\nh")
SLOW = POST.replace(b"/x", b"/slow")


async def written(connections: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
    """What each connection writes when it reads these pieces, some before it has answered the last."""
    told = []
    for pieces in connections:
        connection, transport = a_connection()
        for number, piece in enumerate(pieces):
            connection.data_received(piece)  # after the connection was closed, too, as some transports do
            if number % 2:
                await settle()
        for _ in pieces:
            await settle()
        connection.connection_lost(None)
        told.append(transport.written)
    return told


LINES = st.sampled_from(
    [
        b"POST /x HTTP/1.1",
        b"GET /x?q=1 HTTP/1.1",
        b"PUT /sl%6fw HTTP/1.1",
        b"POST /x HTTP/1.0",
        b"HEAD / HTTP/1.1",
    ]
)
HEADERS = st.lists(
    st.sampled_from(
        [
            b"Host: x",
            b"X-Y: z",
            b"x-y:  w ",
            b"Connection: keep-alive",
            b"Connection: close",
            b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM",
            b"Upgrade: h2c",
            b"Expect: 100-continue",
            b"Content-Length: 3",
            b"Transfer-Encoding: identity",
            b"bad header",
        ]
    ),
    max_size=3,
)
BODIES = st.sampled_from(
    [
        b"\r\n",
        b"Content-Length: 2\r\n\r\nhi",
        b"Content-Length: 12\r\n\r\nhello, world",
        b"content-length:2\r\nA: b\r\n\r\nhi",
        b"CONTENT-LENGTH: 2\r\n\r\nhi",
        b"Content-Length: \r\n\r\n",
        b"Content-Length:\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"Content-Length: 02\r\n\r\nhi",
        b"Content-Length: +2\r\n\r\nhi",
        b"Content-Length: 2 \r\n\r\nhi",
        b"Content-Length: 25\r\n\r\n\r\nContent-Length: 1\r\n\r\n\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
        b"Content-Length: 5\r\n\r\nhi",
        b"Content-Length: 1\r\n\r\nhi",
        b"\n\r\nContent-Length: 2\r\n\r\nhi",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    head = b"\r\n".join([draw(LINES), *draw(HEADERS), draw(BODIES)])
    return head.replace(b"\r\n", b"\n") if draw(st.integers(0, 9)) == 0 else head


@st.composite
def reads(draw: st.DrawFn) -> list[bytes]:
    """Requests that mostly come several times, mostly each in a read of its own."""
    pieces: list[bytes] = []
    for request in draw(st.lists(requests(), min_size=1, max_size=3)):
        pieces += [request] * draw(st.integers(1, 4))
    if draw(st.integers(0, 2)) == 0:
        whole = b"".join(pieces)
        cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
        pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    return [piece for piece in pieces if piece]


@given(st.lists(reads(), min_size=1, max_size=3))
@example([[POST % (2, b"hi")] * 3, [POST % (4, b"hihi"), POST % (2, b"hi")]])
@example([[POST % (2, b"hi")] * 3, [(POST % (2, b"hi"))[:20], (POST % (2, b"hi"))[20:], POST % (2, b"hi")]])
@example([[POST % (2, b"hi")] * 3, [b"GET / HTTP/1.1\r\nX-Y: ", POST % (2, b"hi")]])
@example([[POST % (2, b"hi")] * 3, [POST % (9, b"hi"), POST % (2, b"hi")]])
@example([[POST % (2, b"hi")] * 3, [b"\r\n", POST % (2, b"hi"), POST % (2, b"hi") * 2]])
@example([[POST % (2, b"hi")] * 3, [EMPTY, POST % (2, b"hi")]])
@example([[EMPTY], [POST % (0, b"")] * 3, [EMPTY]])
@example([[UPGRADE % (2, b"hi")] * 3, [UPGRADE % (2, b"hi"), b"GET /=\r\n\r\n1 HTTP/1.1\r\n\r\n"]])
@example([[POST % (2, b"hi")] * 3, [CLOSE % (2, b"hi"), POST % (2, b"hi")]])
@example([[SLOW % (2, b"hi")] * 6])
@example([[SLOW.replace(b"\r\nh", b"\r\nExpect: 100-continue\r\nh") % (2, b"hi")] * 6])
@example([[b"POST /x HTTP/1.1\nContent-Length: 24\n\n\r\nContent-Length: 1\r\n\r\nx"] * 3])
@example([[CLOSE % (2, b"hi")]] * 4)
def test_known_heads_change_nothing(connections: list[list[bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_connection, "_HEADS", RequestHeads())
        known = asyncio.run(written(connections))
        patch.setattr(http_connection, "split", lambda _: None)
        assert known == asyncio.run(written(connections))


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> RequestHeads:
    fresh = RequestHeads()
    monkeypatch.setattr(http_connection, "_HEADS", fresh)
    return fresh


async def test_a_head_that_came_twice_is_parsed_no_more_on_any_connection(
    heads: RequestHeads,
) -> None:
    (first,) = await written([[POST % (2, b"hi")] * 2])
    assert len(heads._known) == 1
    connection, transport = a_connection()
    connection.parser = None  # type: ignore[assignment] # whoever asks it fails
    bodies = (b"hi", b"hello", b"")
    for body in bodies:
        connection.data_received(POST % (len(body), body))
    assert transport.written[0] == first[0] == first[1]
    for body, reply in zip(bodies, transport.written, strict=True):
        assert repr((b"content-length", b"%d" % len(body))).encode() in reply
        assert reply.endswith(repr(body).encode() + b"]")


async def test_the_end_of_the_gateway_is_told_with_a_known_head_too(heads: RequestHeads) -> None:
    await written([[POST % (2, b"hi")] * 2])
    connection, transport = a_connection()
    connection.data_received(POST % (2, b"hi"))
    connection.shutdown()
    connection.data_received(POST % (2, b"hi"))
    await settle()
    replies = b"".join(transport.written)
    assert replies.count(b"HTTP/1.1 200 OK") == 2
    assert replies.count(b"connection: close") == 1
    assert transport.written[-1] == b"<closed>"
    assert len(heads._known) == 1


async def test_a_slow_request_with_a_known_head_is_waited_for(heads: RequestHeads) -> None:
    await written([[SLOW % (2, b"hi")] * 4])
    assert heads._known
    connection, _ = a_connection()
    for _ in range(2):
        connection.data_received(SLOW % (2, b"hi"))
        assert not connection._closing.is_set
        await settle()
        assert connection._closing.is_kept


async def test_a_head_of_very_many_headers_is_not_kept(heads: RequestHeads) -> None:
    for count in (MOST_HEADERS, MOST_HEADERS + 1):
        await written([[b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * count + b"\r\n"] * 2])
        assert len(heads._known) == 1


async def test_heads_of_which_no_two_are_alike_are_not_kept(heads: RequestHeads) -> None:
    heads_with_ids = [b"GET / HTTP/1.1\r\nx-request-id: %d\r\n\r\n" % number for number in range(5)]
    await written([heads_with_ids])
    assert heads._known == {}


async def test_heads_that_come_in_turn_are_known_once_each_has_come_twice(heads: RequestHeads) -> None:
    in_turn = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(5)]
    await written([in_turn, in_turn])
    assert len(heads._known) == 5


async def test_no_more_heads_are_kept_than_may_be(
    heads: RequestHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_heads, "KNOWN", 3)
    for number in range(10):
        await written([[b"GET /%d HTTP/1.1\r\n\r\n" % number] * 2])
        assert 0 < len(heads._known) <= 3 < KNOWN


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (b"", None),
        (b"GET / HTTP/1.1\r\n", None),
        (b"GET / HTTP/1.1\r\n\r\n", Request(b"GET / HTTP/1.1\r\n\r\n", None, 18)),
        (b"GET / HTTP/1.1\r\n\r\nhi", None),
        (POST % (2, b"hi"), Request(EMPTY, b"2", len(POST) - 3)),
        (POST % (3, b"hi"), None),
        (POST % (1, b"hi"), None),
        (b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * HEAD_BYTES), None),
    ],
)
def test_what_may_be_one_whole_request(data: bytes, request_: Request | None) -> None:
    assert split(data) == request_
