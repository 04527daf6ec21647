"""A server's connection: what comes over it, and how it ends."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from gateway.http2 import frames
from gateway.http2.frames import LAST_STREAM, PREFACE, WINDOW_BYTES, ProtocolError, frame
from gateway.http2.heads import Heads
from gateway.http2.lifetime import Lifetime
from gateway.http2.limits import Limits
from gateway.http2.output import Output
from gateway.http2.reading import FrameReader
from gateway.http2.request_head import Malformed
from gateway.http2.streams import Begin, Streams

RECEIVE_BYTES = 2**30
"""What a client may send before some is given back, over all streams; each of them has bounds of its own."""
MAX_BLOCK_BYTES = 64 * 1024
LEAVING = b"leaving."
FRAMES_A_TURN = 1000
"""Who sends more of them at once is read on once others had their turn: frames of 9 bytes that mean nothing
take some microseconds each, and uvloop hands on up to 2 MB in one turn."""


class ServerConnection(asyncio.Protocol):
    """A server's side of HTTP/2, for gRPC.

    Args:
        begin: what answers. It is asked once all that came along with a call's headers has been read.
        limits: for the client.
        opened: told of the connection once there is one.
        closed: told when it is gone.

    Attributes:
        has_begun: the client has said that it speaks HTTP/2.
    """

    def __init__(
        self,
        begin: Begin,
        limits: Limits,
        opened: "Callable[[ServerConnection], None]",
        closed: "Callable[[ServerConnection], None]",
    ) -> None:
        self.has_begun = False
        self._begin = begin
        self._limits = limits
        self._opened = opened
        self._closed = closed
        self._heads = Heads(limits.metadata_bytes)
        self._preface = b""
        self._received = 0
        self._accepts_to = LAST_STREAM

    # --- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we take."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from no class of asyncio
        self._output = Output(self._transport)
        self._lifetime = Lifetime(self, self._limits, self._output.attempt)
        self._streams = Streams(self._output, self._begin, self._limits)
        on_frame = {
            frames.DATA: self._on_data,
            frames.HEADERS: self._on_block,
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window,
        }
        self._reader = FrameReader(on_frame, MAX_BLOCK_BYTES, self._transport.is_closing)
        self._opened(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._transport.abort()
            return
        values = (
            (frames.MAX_CONCURRENT_STREAMS, self._limits.streams),
            (frames.MAX_HEADER_LIST_SIZE, self._limits.metadata_bytes),
        )
        self._output.add(frames.settings(values), frames.window_update(0, RECEIVE_BYTES - WINDOW_BYTES))
        self._lifetime.begin()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """What was under way is for nobody any more."""
        self._lifetime.end()
        self._streams.cancel_all()
        self._streams.on_idle = None
        self._reader.end()
        self._closed(self)

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._output.pause()

    def resume_writing(self) -> None:
        """It has read."""
        self._output.attempt(self._output.resume)
        self._output.attempt(self._streams.begin_new)

    def data_received(self, data: bytes) -> None:
        """Handle what has come whole, begin the calls among it, and send what is answered at once."""
        self._lifetime.heard_at = time.monotonic()
        self._output.attempt(self._receive, data)

    def _receive(self, data: bytes) -> None:
        self._output.is_held = True
        try:
            has_more = self._reader.read(data if self.has_begun else self._after_preface(data), FRAMES_A_TURN)
            self._streams.begin_new()
        except ProtocolError as error:
            self._fail(error)
            return
        self._output.flush()
        if self._transport.is_closing():
            return
        if has_more:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._output.attempt, self._receive, b"")
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    # --- the end

    def leave(self) -> None:
        """Begin no call any more once the client has heard of it, and close after the last reply."""
        if self._accepts_to == LAST_STREAM and not self._transport.is_closing():
            self._output.add(frames.goaway(LAST_STREAM, frames.NO_ERROR), frame(frames.PING, 0, 0, LEAVING))
            self._lifetime.leave()

    def close_door(self) -> None:
        """What the client begins from now on it has to begin elsewhere."""
        if self._accepts_to == LAST_STREAM:
            self._accepts_to = self._streams.last
            self._output.add(frames.goaway(self._accepts_to, frames.NO_ERROR))
            self._streams.on_idle = self._close_if_done
            self._close_if_done()

    def ping(self) -> None:
        """Ask the client whether it is there."""
        self._output.add(frame(frames.PING, 0, 0, bytes(frames.PING_BYTES)))

    def abort(self) -> None:
        """Wait for nothing."""
        self._transport.abort()

    def _close_if_done(self) -> None:
        if not self._streams.calls:
            self._output.flush()
            self._transport.close()

    def _fail(self, error: ProtocolError) -> None:
        """The client broke the rules: nothing of it is read any more, and no call answered."""
        self._streams.cancel_all()
        self._output.add(frames.goaway(self._streams.last, error.code, str(error).encode("ascii", "replace")))
        self._output.flush()
        self._transport.close()

    # --- frames

    def _after_preface(self, data: bytes) -> bytes:
        data = self._preface + data
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise ProtocolError("the client speaks no HTTP/2")
        if len(data) < len(PREFACE):
            self._preface = data
            return b""
        self.has_begun, self._preface = True, b""
        return data[len(PREFACE) :]

    def _on_block(self, flags: int, stream: int, block: bytes) -> None:
        is_whole = bool(flags & frames.END_STREAM)
        if stream % 2 == 0:
            raise ProtocolError("a client's streams are odd")
        if stream <= self._streams.last:
            self._on_trailers(stream, block, is_whole=is_whole)
            return
        try:
            head = self._heads.read(block)
        except Malformed:
            head = None
        if stream <= self._accepts_to:
            self._streams.open(stream, head, is_whole=is_whole)

    def _on_trailers(self, stream: int, block: bytes, *, is_whole: bool) -> None:
        is_allowed = self._heads.read_trailers(block) and is_whole
        call = self._streams.calls.get(stream)
        if call is None:
            self._streams.late_trailers(stream)
        elif call.is_whole:
            self._streams.refuse(stream, frames.STREAM_CLOSED)
        elif not is_allowed:
            self._streams.refuse(stream, frames.PROTOCOL_ERROR)
        else:
            self._streams.end(call)

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._output.is_busy = True
        self._received += size
        if self._received > RECEIVE_BYTES // 2:
            self._output.add(frames.window_update(0, self._received))
            self._received = 0
        streams, is_last = self._streams, bool(flags & frames.END_STREAM)
        piece = frames.unpadded(flags, payload) if flags & frames.PADDED else payload
        if not (piece or is_last):
            streams.count()
        call = streams.calls.get(stream)
        if call is None:
            if self._has_begun(stream):
                streams.late(stream)
            return
        call.room -= size
        if call.is_whole:
            streams.refuse(stream, frames.STREAM_CLOSED)
        elif call.room < 0:
            streams.refuse(stream, frames.FLOW_CONTROL_ERROR)
        else:
            if is_last:
                call.is_whole = True
            if piece:
                streams.add(call, piece)
            if is_last:
                streams.end(call)

    def _has_begun(self, stream: int) -> bool:
        """Whether a stream has; False for one that came when it was too late.

        Raises:
            ProtocolError: it has not, and there is no reason to.
        """
        if stream <= self._streams.last:
            return True
        if stream <= self._accepts_to:
            raise ProtocolError("a stream has not begun")
        return False

    def _on_priority(self, _: int, __: int, payload: bytes) -> None:
        if len(payload) != frames.PRIORITY_BYTES:
            raise ProtocolError("a priority of another size", frames.FRAME_SIZE_ERROR)
        self._streams.count()

    def _on_reset(self, _: int, stream: int, payload: bytes) -> None:
        frames.number(payload)
        if self._has_begun(stream):
            self._streams.reset(stream)

    def _on_settings(self, flags: int, _: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ProtocolError("an acknowledgement has no settings", frames.FRAME_SIZE_ERROR)
            self._streams.knows_limits = True
            return
        said = dict(frames.checked_settings(payload))  # the last of several wins
        if frames.INITIAL_WINDOW_SIZE in said:
            self._streams.resize(said[frames.INITIAL_WINDOW_SIZE])
        if frames.MAX_FRAME_SIZE in said:
            self._output.sending.frame_bytes = said[frames.MAX_FRAME_SIZE]
        self._streams.count()
        self._output.add(frame(frames.SETTINGS, frames.ACK, 0, b""))

    def _on_push(self, _: int, __: int, ___: bytes) -> None:
        raise ProtocolError("a client pushes nothing")

    def _on_ping(self, flags: int, _: int, payload: bytes) -> None:
        if len(payload) != frames.PING_BYTES:
            raise ProtocolError("a ping of another size", frames.FRAME_SIZE_ERROR)
        if not flags & frames.ACK:
            self._streams.count()
            if self._streams.patience.is_pinged_out(is_busy=self._output.is_busy):
                raise ProtocolError("too_many_pings", frames.ENHANCE_YOUR_CALM)
            self._output.is_busy = False
            self._output.add(frame(frames.PING, frames.ACK, 0, payload))
        elif payload == LEAVING:
            self.close_door()

    def _on_goaway(self, _: int, __: int, payload: bytes) -> None:
        if len(payload) < frames.GOAWAY_BYTES:
            raise ProtocolError("a goaway is cut short", frames.FRAME_SIZE_ERROR)
        self.close_door()

    def _on_window(self, _: int, stream: int, payload: bytes) -> None:
        more = frames.number(payload)
        self._output.is_busy = True
        if stream:
            if self._has_begun(stream):
                self._streams.enlarge(stream, more)
            return
        sending = self._output.sending
        sending.window += more
        self._streams.untaken.given(0)
        if not more:
            raise ProtocolError("a window grows by nothing")
        if sending.window > frames.MAX_WINDOW_BYTES:
            raise ProtocolError("a window is too large", frames.FLOW_CONTROL_ERROR)
