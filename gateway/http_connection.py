"""One HTTP connection: bounds on what uvicorn leaves unbounded, and no upgrades.

uvicorn's httptools protocol waits for ever for a request line, keeps headers of any size, goes on reading a
body whose request was refused long ago, and drops the body of a request that offers an upgrade to HTTP/2 in
the clear, as Java's HttpClient and `curl --http2` do with every first request.
"""

import asyncio
import resource
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.protocols.http_body import WHOLE_BODY

HEAD_LIMIT_BYTES = 64 * 1024
"""Request line and headers together; also a chunk's extensions, and the trailers behind a chunked body."""
HEAD_SECONDS = 30.0
"""From the connection, or the first byte of a further request, to the end of the headers."""
UNREAD_SECONDS = 10.0
"""How long the rest of a body is read and thrown away once its request has been answered, so that a caller
who looks at the reply only after it has sent everything finds it."""
LAST_SECONDS = 0.5
"""When the gateway ends, how long a connection that waits for a request may still bring one: it may be on its
way, and would be lost if the connection were closed at once."""
FILES_DIVISOR = 2
"""HTTP connections may take this part of the files that the process may open. The rest is for gRPC, the admin
port, model servers and Redis: a flood must not look to the probes as if the gateway were dead."""

_TOO_LARGE = b"request head is larger than the limit of %d bytes" % HEAD_LIMIT_BYTES


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol with limits; its arguments are uvicorn's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._idle_bytes = 0  # received since the parser last reported anything that is handed on
        self._timer: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own
        """Start to wait for the first head, unless there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // FILES_DIVISOR:
            transport.abort()
        else:
            self._close_after(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._keep_open()
        if self._answering is not None:
            self._answering.disconnected = True  # uvicorn tells the last request that came, and not this one
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn closes at once, whatever is under way
        """The caller has sent all that it will; its last request is answered all the same (RFC 9112, 9.6)."""
        cycle = self.cycle
        is_waited_for = cycle is not None and not cycle.more_body and not cycle.response_complete
        is_waited_for &= self.transport.get_extra_info("sslcontext") is None  # TLS cannot close one side only
        if is_waited_for:
            cycle.keep_alive = False
        return is_waited_for

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it adds up to a head that is too large."""
        self._unset_keepalive_if_required()
        self._idle_bytes += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = self._parse(rest)
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", b"Invalid HTTP request received.")
            return
        if self._idle_bytes > HEAD_LIMIT_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
        elif self._timer is None and self._in_head:
            self._close_after(HEAD_SECONDS)
        elif self._timer is None and self.cycle.response_complete:
            # The rest of a refused body, or a line end: uvicorn counts from the reply on, and has stopped.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header; trailers, which nobody here reads, are dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: the request starts."""
        self._in_head = False
        self._idle_bytes = 0
        self._keep_open()
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is there."""
        self._idle_bytes = 0
        self._keep_open()
        # Tasks start later: those whose body came along with the head see this, and wait for nothing.
        cast("dict[str, Any]", self.scope)[WHOLE_BODY] = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The request is answered, perhaps before its body was complete."""
        super().on_response_complete()
        if self.cycle.more_body and self.cycle.response_complete:
            self._close_after(UNREAD_SECONDS)

    def shutdown(self) -> None:
        """The gateway ends: answer what is under way, or comes now, and say that it was the last."""
        self._is_ending = True
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self._close_after(LAST_SECONDS)
        else:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start on a request."""
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        """Keep uvicorn from starting on a request that is read again without its offer."""
        return True

    def _parse(self, data: memoryview) -> memoryview:
        """Parse all, or up to the end of a head that offers an upgrade; what is left comes back.

        Such a head is read again as if it offered nothing: a server may ignore an offer (RFC 9110, 7.8).

        Raises:
            httptools.HttpParserError: it is not HTTP.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserInvalidMethodError("CONNECT is for proxies") from upgrade
            version = self.parser.get_http_version().encode()
            lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")
            return data[upgrade.args[0] :]
        return data[len(data) :]

    def _refuse(self, status: bytes, text: bytes) -> None:
        """Close, and say why unless the caller would take that for the answer to an earlier request."""
        cycle = self.cycle
        is_next = cycle is None or cycle.response_complete
        if is_next or (cycle.more_body and not cycle.response_started and not self.pipeline):
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (status, len(text), text)
            )
        self.transport.close()

    def _close_after(self, seconds: float) -> None:
        self._keep_open()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _keep_open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
