"""Replies of the REST edges, and how they are sent."""

from collections.abc import Mapping
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
        return self._replace(lines=b"".join(b"%b: %b\r\n" % pair for pair in self.pairs()))

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI has them."""
        return [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *((name.encode(), value.encode("latin-1")) for name, value in self.headers.items()),
        ]


def answer(response: InferResponse, body: bytes, content_type: bytes = JSON) -> HttpReply:
    """A 200 whose headers say which cache, variant, version and backend answered."""
    return HttpReply(body, content_type=content_type, headers=reply_facts(response))


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
    if reply.status == HTTPStatus.OK and WHOLE_REPLY in scope and scope["method"] != "HEAD":
        lines = reply.lines or reply.with_lines().lines
        if scope[WHOLE_REPLY](b"%b%b: %b\r\n" % (lines, _REQUEST_ID, sent_id), reply.body):
            return
    headers = [*reply.pairs(), (_REQUEST_ID, sent_id)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
