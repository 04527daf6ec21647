"""The body of an HTTP request, within the limit.

One that is over the limit is refused at once. Its rest is the connection's to read and throw away, as it is
for every request that is answered before its end.
"""

from collections.abc import Mapping

from starlette.types import Receive, Scope

from gateway.errors import BodyTooLarge, MalformedBody

WHOLE_BODY = "inferway.whole_body"
"""What a scope holds if its request's body was there, to its end, when the request started: a callable that
gives it. There is nothing to wait for then, and a timer would cost more than the body."""
REST_OF_BODY = "inferway.rest_of_body"
"""What a scope holds if its connection can wait for a body to its end: a callable that gives a future of it,
or of None when the caller leaves. ASGI hands on each piece by itself, and nothing is read in between."""
LEFT = "the caller closed the connection before the body was complete"


def whole_body(scope: Scope, limit: int) -> bytes:
    """The body of such a request, as it was sent.

    Raises:
        BodyTooLarge: over `limit` bytes.
    """
    body: bytes = scope[WHOLE_BODY]()
    if len(body) > limit:
        raise BodyTooLarge(limit)
    return body


async def read_body(scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The body as it was sent.

    A caller that asked whether to send its body (RFC 9110, 10.1.1) is told to by the first look at it; so a
    length over the limit is refused without one.

    Raises:
        BodyTooLarge: over `limit` bytes.
        MalformedBody: the caller left in the middle.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit():
        if int(length) > limit:
            raise BodyTooLarge(limit)
        if REST_OF_BODY in scope:
            body: bytes | None = await scope[REST_OF_BODY]()
            if body is None:
                raise MalformedBody(LEFT)
            return body
    chunks: list[bytes] = []
    size_bytes = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedBody(LEFT)
        chunk = message.get("body", b"")
        size_bytes += len(chunk)
        if size_bytes > limit:
            raise BodyTooLarge(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
