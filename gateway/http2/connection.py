"""A client's connection: its streams, and how it ends.

Longer than most files here: each kind of frame changes the same few tables of calls, and a part of it that
stood elsewhere would reach into them. What can stand alone does: `reading.py`, `sending.py`, `call.py`.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import cast

from grpc import StatusCode

from gateway.http2 import frames
from gateway.http2.call import MAX_REPEATS, Call, withdraw
from gateway.http2.frames import LAST_STREAM, HeaderReader, Headers, ProtocolError, frame
from gateway.http2.reading import FrameReader
from gateway.http2.sending import CallSending

RECEIVE_BYTES = 2**30
"""What the server may send before we have given some back; what one call may bring is bounded by itself."""
WRITE_BYTES = 256 * 1024
"""What may lie in the transport before large messages wait for the server to read on: what is small, such as
a question about readiness, comes behind no more than that."""
REFUSED_SECONDS = 0.1
"""How long a refused call waits at most, with others under way, until it is sent again."""
MAX_UNREAD_ANSWERS = 1000
"""To pings and settings, while the server does not read: one that goes on asking would fill the memory."""
MAX_BLOCK_BYTES = 1024 * 1024


class Connection(asyncio.Protocol):
    """A client's side of HTTP/2, to be connected.

    Args:
        limit: the largest reply in bytes.
        again: takes a call that the server has not begun, to send it over another connection.
        gone: called once, when no new call may begin here any more.

    Attributes:
        is_ready: done when the server has said that it speaks HTTP/2; an OSError when it does not.
        lost: done when the connection is closed.
        takes_calls: no end of it has been seen yet.
        has_answered: a call has come to its end over it, or is about to, as a leaving server promises.
    """

    def __init__(self, limit: int, again: Callable[[Call], None], gone: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.is_ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._limit = limit
        self._again = again
        self._gone = gone
        self._headers = HeaderReader()
        self._calls: dict[int, Call] = {}
        self._waiting: dict[Call, None] = {}
        self._next_stream = 1
        self.takes_calls = True
        self.has_answered = False
        self._max_streams = LAST_STREAM
        self._is_full = False
        self._consumed = 0
        self._unread_answers = 0
        self._on_frame = {
            frames.DATA: self._on_data,
            frames.HEADERS: self._on_block,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window,
        }

    # --- what the channel does

    def begin(self, call: Call) -> None:
        """Send a call, or let it wait until the server takes one more at once."""
        call.place = self
        if len(self._calls) >= self._max_streams:
            self._waiting[call] = None
        else:
            self._start(call)

    def withdraw(self, reply: asyncio.Future[bytes]) -> None:
        """End the call that is to have this reply, if it waits here; one that runs is only not repeated."""
        withdraw(self._waiting, reply)
        for call in self._calls.values():
            if call.reply is reply:
                call.repeats = MAX_REPEATS

    def _start(self, call: Call) -> None:
        call.stream = self._next_stream
        self._next_stream += 2
        self._calls[call.stream] = call
        self._sending.send(call)
        if self._next_stream > LAST_STREAM:
            self.drain()

    def forget(self, call: Call) -> None:
        """Nobody waits for it any more: tell the server, if it has it."""
        if self._calls.get(call.stream) is call:
            self._end(call, frames.CANCEL)
        else:
            self._waiting.pop(call, None)

    def drain(self) -> None:
        """Begin no call any more, and close after the last reply."""
        if self.takes_calls:
            self.takes_calls = False
            self._gone()
            waiting, self._waiting = self._waiting, {}
            for call in waiting:
                self._again(call)
        if not self._calls:
            self._transport.close()

    def close(self) -> None:
        """End every call, and close once the server has read what was sent."""
        calls = [*self._calls.values(), *self._waiting]
        self._calls.clear()
        self._waiting.clear()
        self._sending.blocked.clear()
        for call in calls:
            call.fail(StatusCode.CANCELLED, "the channel was closed")
        self.drain()

    def abort(self) -> None:
        """Wait for the server no longer."""
        self._transport.abort()

    # --- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we take; calls begin once the server has, too."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from no class of asyncio
        self._transport.set_write_buffer_limits(WRITE_BYTES)
        self._reader = FrameReader(self._on_frame, MAX_BLOCK_BYTES, self._transport.is_closing)
        self._sending = CallSending(self._transport.writelines)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._fail(ConnectionError("over TLS the server does not offer HTTP/2 (ALPN)"))
            return
        self._transport.write(frames.greeting(self._limit, RECEIVE_BYTES))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever was under way has failed."""
        self._fail(exc or ConnectionError("Socket closed"))
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        """The server does not read as fast as we write."""
        self._sending.is_paused = True

    def resume_writing(self) -> None:
        """It has read."""
        self._sending.is_paused = False
        self._unread_answers = 0
        self._sending.go_on()

    def eof_received(self) -> None:
        """No reply can come any more: do not wait until the server has read what is not sent yet."""
        self._fail(ConnectionError("Socket closed"))

    def data_received(self, data: bytes) -> None:
        """Handle what has come whole, and keep the rest."""
        try:
            self._reader.read(data)
        except (ProtocolError, struct.error) as error:
            code = error.code if isinstance(error, ProtocolError) else frames.FRAME_SIZE_ERROR
            self._transport.write(frames.goaway(0, code))
            self._fail(ConnectionError(f"HTTP/2: {error}"))
            return
        if self._sending.blocked:
            self._sending.go_on()
        if not self.takes_calls and not self._calls:
            self._transport.close()

    # --- frames

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._consumed += len(payload)
        if self._consumed >= RECEIVE_BYTES // 2:
            self._transport.write(frames.window_update(0, self._consumed))
            self._consumed = 0
        call = self._calls.get(stream)
        if call is None:
            return  # it was given up a moment ago
        if not call.receive(frames.unpadded(flags & frames.PADDED, payload)):
            self._end(call, frames.CANCEL)
        elif flags & frames.END_STREAM:
            self._finish(call, {})

    def _on_block(self, flags: int, stream: int, block: bytes) -> None:
        call = self._calls.get(stream)
        if call is None:
            return
        headers = self._headers.read(block)
        if flags & frames.END_STREAM:
            self._finish(call, headers)
        elif not call.open(headers):
            self._end(call, frames.CANCEL)

    def _on_reset(self, _: int, stream: int, payload: bytes) -> None:
        code = frames.number(payload)
        call = self._take(stream)
        if call is None:
            return
        if code == frames.REFUSED_STREAM and call.may_repeat and self._calls and self.takes_calls:
            call.repeat()
            self._waiting[call] = None  # there are too many: until another ends, or for a moment
            self._is_full = True
            asyncio.get_running_loop().call_later(REFUSED_SECONDS, self._begin_waiting)
            return
        if code == frames.REFUSED_STREAM:
            self._repeat(call, "the server refused the call")
        else:
            call.reset(code)
        self._begin_waiting()

    def _on_settings(self, flags: int, _: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        for name, value in struct.iter_unpack(">HI", payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW_BYTES:
                    raise ProtocolError("a window is too large", frames.FLOW_CONTROL_ERROR)
                self._sending.resize(value)
            elif name == frames.MAX_FRAME_SIZE:
                self._sending.frame_bytes = min(max(value, frames.FRAME_BYTES), frames.MAX_FRAME_BYTES)
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self._max_streams = value
        self._acknowledge(frames.SETTINGS, b"")
        if not self.is_ready.done():
            self.is_ready.set_result(None)
        self._begin_waiting()

    def _on_window(self, _: int, stream: int, payload: bytes) -> None:
        self._sending.enlarge(stream, frames.number(payload))

    def _on_push(self, _: int, __: int, ___: bytes) -> None:
        raise ProtocolError("the server pushes, which it was told not to")

    def _on_ping(self, flags: int, _: int, payload: bytes) -> None:
        if len(payload) != frames.PING_BYTES:
            raise ProtocolError("a ping of another size", frames.FRAME_SIZE_ERROR)
        if not flags & frames.ACK:
            self._acknowledge(frames.PING, payload)

    def _acknowledge(self, kind: int, payload: bytes) -> None:
        self._unread_answers += self._sending.is_paused
        if self._unread_answers > MAX_UNREAD_ANSWERS:
            raise ProtocolError("the server asks on and on, and reads no answer", frames.ENHANCE_YOUR_CALM)
        self._transport.write(frame(kind, frames.ACK, 0, payload))

    def _on_goaway(self, _flags: int, _stream: int, payload: bytes) -> None:
        last, _ = struct.unpack_from(">II", payload)
        not_begun = [self._take(stream) for stream in [*self._calls] if stream > last & LAST_STREAM]
        self.has_answered = self.has_answered or bool(self._calls)  # it is going to
        self.drain()  # first, so that they begin elsewhere
        for call in filter(None, not_begun):
            self._repeat(call, "the server is going away and has not begun the call")

    # --- calls

    def _finish(self, call: Call, headers: Headers) -> None:
        call.finish(headers)
        self.has_answered = True
        if call.unsent:  # the server knows enough, and need not be sent the rest
            self._end(call, frames.NO_ERROR)
        else:
            del self._calls[call.stream]
            self._begin_waiting()

    def _end(self, call: Call, code: int) -> None:
        self._take(call.stream)
        self._transport.write(frames.reset(call.stream, code))
        self._begin_waiting()
        if not self.takes_calls and not self._calls:
            self._transport.close()

    def _take(self, stream: int) -> Call | None:
        self._sending.blocked.pop(stream, None)
        return self._calls.pop(stream, None)

    def _begin_waiting(self) -> None:
        while self._waiting and len(self._calls) < self._max_streams and self.takes_calls:
            call = next(iter(self._waiting))
            del self._waiting[call]
            if not call.reply.done():
                self._start(call)
                if self._is_full:
                    return  # one has ended, so one may begin
        self._is_full = False

    def _repeat(self, call: Call, why: str) -> None:
        """The server has not begun it: it may begin elsewhere, but not for ever."""
        if call.may_repeat:
            call.repeat()
            self._again(call)
        else:
            call.fail(StatusCode.UNAVAILABLE, why, was_sent=False)

    # --- the end

    def _fail(self, error: Exception) -> None:
        """The connection is of no use any more."""
        if not self.is_ready.done():
            self.is_ready.set_exception(error)
            self.is_ready.exception()  # who would have heard of it may have left
        calls, self._calls = self._calls, {}
        self._sending.blocked.clear()
        self.drain()
        for call in calls.values():
            call.fail(StatusCode.UNAVAILABLE, str(error))
        self._transport.abort()
