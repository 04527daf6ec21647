"""One HTTP connection: bounds on what uvicorn leaves unbounded, and no upgrades.

uvicorn's httptools protocol waits for ever for a request line, keeps headers of any size, goes on reading a
body whose request was refused long ago, and drops the body of a request that offers an upgrade to HTTP/2 in
the clear, as Java's HttpClient and `curl --http2` do with every first request.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.http_closing import ClosingTime
from gateway.http_heads import Request, RequestHeads, split
from gateway.protocols.at_once import begin
from gateway.protocols.http_body import REST_OF_BODY, WHOLE_BODY
from gateway.protocols.http_reply import WHOLE_REPLY

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

_HEADS = RequestHeads()
"""Of all connections of this process."""
_TOO_LARGE = b"request head is larger than the limit of %d bytes" % HEAD_LIMIT_BYTES


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol with limits; its arguments are uvicorn's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._is_between = True  # nothing of a further request has come
        self._idle_bytes = 0  # received since the parser last reported anything that is handed on
        self._answering: RequestResponseCycle | None = None
        self._pieces: list[bytes] = []  # of the body that is waited for
        self._gathered: asyncio.Future[bytes | None] | None = None
        self._is_parsing = False
        # A request that came with what is parsed.
        self._begins: tuple[RequestResponseCycle, Any] | None = None
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._closing = ClosingTime(self.loop, transport.close)
        self._closing.set(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._closing.stop()
        self._gather_no_more(None)
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
        cycle = self.cycle
        is_next = self._is_between and (cycle is None or (cycle.response_complete and cycle.keep_alive))
        request = split(data) if is_next else None
        if request is not None:
            scope = _HEADS.scope(request)
            if scope is not None:
                self._begin_whole(scope, data[request.begin :])
                return
        self._idle_bytes += len(data)
        rest = memoryview(data)
        self._is_parsing = True
        try:
            while rest:
                rest = self._parse(rest)
        except httptools.HttpParserError:
            self._begin()
            self._refuse(b"400 Bad Request", b"Invalid HTTP request received.")
            return
        finally:
            self._is_parsing = False
        if request is not None:
            self._remember(request, len(data) - request.begin)
        self._begin(at_once=True)
        if self._idle_bytes > HEAD_LIMIT_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
        elif self._closing.is_kept or not self._closing.is_set:
            if self._in_head:
                self._closing.set(HEAD_SECONDS)
            elif self.cycle.response_complete:  # what came is the rest of a refused body, or a line end
                self._closing.set(self.timeout_keep_alive, is_kept=True)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._is_between = True, False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there: the request starts."""
        self._in_head = False
        self._idle_bytes = 0
        self._closing.clear()
        super().on_headers_complete()
        if "path" in self.scope:  # else it offers an upgrade, and is read again
            self.headers = []  # for trailers, which nobody here reads
            cast("dict[str, Any]", self.scope)[REST_OF_BODY] = self._gather
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._idle_bytes = 0
        if self._gathered is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The body is there."""
        self._is_between = True
        self._idle_bytes = 0
        self._closing.clear()
        if self._gathered is not None:
            self._gather_no_more(b"".join(self._pieces))
        # Requests begin later: those whose body came along with the head see this, and wait for nothing.
        scope = cast("dict[str, Any]", self.scope)
        scope |= {WHOLE_BODY: self._whole_body, WHOLE_REPLY: self._send_whole}
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The request is answered, perhaps before its body was complete."""
        # As uvicorn has it, but for its timer of each request's own.
        self.server_state.total_requests += 1
        if self._gathered is not None:
            self._gather_no_more(None)
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.cycle.more_body:
            self._closing.set(UNREAD_SECONDS)
        elif not self._closing.is_set:  # else a further head has begun
            self._closing.set(self.timeout_keep_alive, is_kept=True)

    def shutdown(self) -> None:
        """The gateway ends: answer what is under way, or comes now, and say that it was the last."""
        self._is_ending = True
        if self.cycle is None or self.cycle.response_complete:
            self._closing.set(LAST_SECONDS)
        else:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start on a request; while its bytes are parsed, once they are."""
        self._answering = cycle
        self._begins = (cycle, app)
        if not self._is_parsing:
            self._begin()

    def _begin_whole(self, scope: dict[str, Any], body: bytes) -> None:
        """Start on a request that came whole, with a known head; uvicorn does so once it has parsed one."""
        self._in_head, self._idle_bytes = False, 0
        self._closing.clear()
        scope |= {"server": self.server, "client": self.client, "scheme": self.scheme}
        scope |= {"state": self.app_state.copy(), REST_OF_BODY: self._gather}
        scope |= {WHOLE_BODY: self._whole_body, WHOLE_REPLY: self._send_whole}
        self.cycle = cycle = RequestResponseCycle(
            scope=cast("Any", scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=not self._is_ending,
            on_response=self.on_response_complete,
        )
        cycle.body, cycle.more_body = cast("bytearray", body), False  # it is only read
        cycle.message_event.set()
        self._answering, self._begins = cycle, (cycle, self.app)
        self._begin(at_once=True)

    def _remember(self, request: Request, body_bytes: int) -> None:
        """Keep the head of a whole request that was parsed, if it came before."""
        if self._begins is not None:
            cycle, _ = self._begins
            is_whole = not cycle.more_body and len(cycle.body) == body_bytes
            is_plain = is_whole and cycle.keep_alive and not cycle.waiting_for_100_continue
            if is_plain and _HEADS.comes_again(request):
                _HEADS.keep(request, cycle.scope)

    def _begin(self, *, at_once: bool = False) -> None:
        """Start on the request that is to begin, if there is one; one whose body is there perhaps at once."""
        if self._begins is None:
            return
        (cycle, app), self._begins = self._begins, None
        if cycle.more_body or not at_once:
            super()._start_asgi_task(cycle, app)
            return
        task = begin(cycle.run_asgi(app))
        if task is not None:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _whole_body(self) -> bytes:
        """The body of the request that is being answered."""
        cycle = cast("RequestResponseCycle", self._answering)  # it is who asks
        body, cycle.body = bytes(cycle.body), bytearray()
        self.flow.resume_reading()
        return body

    def _gather(self) -> asyncio.Future[bytes | None]:
        """All of the body that is being received; None if it never comes."""
        cycle = cast("RequestResponseCycle", self._answering)  # it is who asks
        body = self._whole_body()
        gathered = self._gathered = self.loop.create_future()
        self._pieces = [body]
        if cycle.disconnected or cycle is not self.cycle or not cycle.more_body:
            self._gather_no_more(None if cycle.disconnected else body)
        elif cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return gathered

    def _gather_no_more(self, body: bytes | None) -> None:
        """The body is there, or nobody waits for it, or it never comes."""
        gathered, self._gathered, self._pieces = self._gathered, None, []
        if gathered is not None and not gathered.done():
            gathered.set_result(body)

    def _send_whole(self, head: bytes, body: bytes) -> bool:
        """Answer with a 200: header lines and body. False if ASGI's own way has more to do than that."""
        cycle = cast("RequestResponseCycle", self._answering)  # it is who answers
        if self.flow.write_paused or cycle.disconnected or not cycle.keep_alive or cycle.response_started:
            return False
        lines = [b"%b: %b\r\n" % header for header in cycle.default_headers]
        self.transport.write(b"".join([STATUS_LINE[200], *lines, head, b"\r\n", body]))
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

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
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
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
