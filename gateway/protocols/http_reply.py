"""Replies of the REST edges, and how they are sent."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from starlette.types import Scope, Send

from gateway.inference import InferResponse
from gateway.protocols.edge import reply_facts
from gateway.protocols.http_coding import compress, reply_coding
from gateway.request_id import HEADER

JSON = b"application/json"
WHOLE_REPLY = "inferway.whole_reply"
"""What a scope holds if its connection can send the head and the body of a 200 in one step: a callable of
both, in which the head is header lines. False comes back when it cannot just now. ASGI's two messages, and
the check of each header in them, cost more than the gateway does for a hit."""

KNOWN = 1024
"""Heads of replies that are kept as they are sent: those of a model's answers are mostly the same."""

_REQUEST_ID = HEADER.encode()


class HttpReply(NamedTuple):
    """Status, body and headers (names in lower case; content-length is added).

    `lines` are the headers of a 200 as they are sent, all but the request's id, where they are known already.
    """

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Mapping[str, str] = MappingProxyType({})
    lines: bytes = b""

    def with_lines(self) -> "HttpReply":
        """The same, so that it can be sent often."""
        return self._replace(lines=self.head())

    def head(self) -> bytes:
        """The headers as they are sent."""
        return self.lines or _lines(self.content_type, len(self.body), tuple(self.headers.items()))

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI has them."""
        return _pairs(self.content_type, len(self.body), self.headers.items())


def _pairs(
    content_type: bytes, body_bytes: int, headers: Iterable[tuple[str, str]]
) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", content_type),
        (b"content-length", b"%d" % body_bytes),
        *((name.encode(), value.encode("latin-1")) for name, value in headers),
    ]


@lru_cache(KNOWN)
def _lines(content_type: bytes, body_bytes: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in _pairs(content_type, body_bytes, headers))


def answer(
    response: InferResponse, body: bytes, content_type: bytes = JSON, more: tuple[str, str] | None = None
) -> HttpReply:
    """A 200 whose headers say which cache, variant, version and backend answered, and `more`."""
    headers, lines = _answer_head(
        content_type, len(body), more, response.cache, response.variant, response.version, response.backend
    )
    return HttpReply(body, content_type=content_type, headers=headers, lines=lines)


@lru_cache(KNOWN)
def _answer_head(
    content_type: bytes,
    body_bytes: int,
    more: tuple[str, str] | None,
    cache: str,
    variant: str,
    version: str,
    backend: str,
) -> tuple[Mapping[str, str], bytes]:
    """The headers of an answer, and all of its header lines."""
    headers = reply_facts(InferResponse("", version, (), variant, backend=backend, cache=cache))
    if more is not None:
        headers |= (more,)
    return headers, _lines(content_type, body_bytes, tuple(headers.items()))


async def coded(reply: HttpReply, accept: str) -> HttpReply:
    """The reply, compressed if the caller accepts that."""
    coding = reply_coding(accept, len(reply.body))
    if not coding:
        return reply
    headers = {**reply.headers, "content-encoding": coding, "vary": "accept-encoding"}
    return reply._replace(body=await compress(reply.body, coding), headers=headers, lines=b"")


async def send_reply(scope: Scope, send: Send, reply: HttpReply, request_id: str) -> None:
    """Send a reply."""
    sent_id = request_id.encode()
    may_be_whole = reply.status == HTTPStatus.OK and WHOLE_REPLY in scope and scope["method"] != "HEAD"
    if may_be_whole and scope[WHOLE_REPLY](
        b"%b%b: %b\r\n" % (reply.head(), _REQUEST_ID, sent_id), reply.body
    ):
        return
    headers = [*reply.pairs(), (_REQUEST_ID, sent_id)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
