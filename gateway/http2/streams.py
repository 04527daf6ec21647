"""The calls of one server's connection, from their headers to their last byte."""

import asyncio
import time
from collections.abc import Callable

from grpc import StatusCode

from gateway.http2 import frames
from gateway.http2.call import CallFailed
from gateway.http2.frames import ProtocolError, frame_head
from gateway.http2.grants import Grants
from gateway.http2.incoming import OPENING, IncomingCall
from gateway.http2.limits import Limits
from gateway.http2.output import Output
from gateway.http2.patience import Patience
from gateway.http2.request_head import Head
from gateway.http2.sending import JOINED_BYTES
from gateway.http2.untaken import Untaken

ENDED_EARLY = 1000
"""Of so many streams that we have ended it is remembered that their rest may still be coming."""
RAPID_SECONDS = 0.1
"""A call that is given up later than this has missed a deadline, rather than being one of a flood."""
HEARING_SECONDS = 30.0
"""So long a client may take to hear how many calls it may have; until then it may try more."""
UNTAKEN_MESSAGES = 4
"""No call begins while more bytes of replies wait for room than so many of the largest messages have."""
DEADLINE_GRACE_SECONDS = 0.05
"""Who answers knows the deadline, too, and what has missed it: it is ended only if it does not say so."""

Begin = Callable[[IncomingCall], "asyncio.Task[None] | None"]
"""Begins to answer a call; the task of what is left to do, if anything is."""


class Streams:
    """A connection's calls.

    Args:
        output: of the connection.
        begin: what answers.
        limits: for the client.

    Attributes:
        calls: by their streams; those that have not ended.
        last: the highest stream that has begun.
        knows_limits: the client has heard how many calls it may have; before, it may have begun any number.
        patience: with the client.
        untaken: replies that it gives no room.
        on_idle: told that the last call has ended, a moment later.
    """

    def __init__(self, output: Output, begin: Begin, limits: Limits) -> None:
        self.calls: dict[int, IncomingCall] = {}
        self.last = 0
        self.knows_limits = False
        self.patience = Patience(limits.client_ping_seconds)
        self._output = output
        self._begin = begin
        self._limits = limits
        self._grants = Grants(limits.message_bytes)
        self.on_idle: Callable[[], None] | None = None
        self.untaken = Untaken(output)
        self._new: list[IncomingCall] = []
        self._hears_until = time.monotonic() + HEARING_SECONDS
        self._cancelled: set[asyncio.Task[None]] = set()
        self._ended_early: dict[int, None] = {}

    # --- what frames bring about

    def open(self, stream: int, head: Head | None, *, is_whole: bool) -> None:
        """A call comes; None for headers that HTTP/2 does not allow."""
        self.last = stream
        if head is None or (is_whole and head.length > 0):
            self.refuse(stream, frames.PROTOCOL_ERROR)
        elif len(self.calls) >= self._limits.streams or len(self._cancelled) > self._limits.streams:
            is_told = self.knows_limits or time.monotonic() > self._hears_until
            if is_told or self._output.sending.is_paused:
                self.count()
            self._output.add(self._reset(stream, frames.REFUSED_STREAM))
        else:
            window = self._output.sending.first_window
            call = IncomingCall(self, stream, head, time.monotonic(), window, self._limits.message_bytes)
            call.is_whole = is_whole
            self.calls[stream] = call
            self._new.append(call)

    def begin_new(self) -> None:
        """Begin the calls that have come, with what came along with their headers, unless too much waits."""
        if self._is_full():
            self._new = [call for call in self._new if not call.is_over]
            return
        new, self._new = self._new, []
        for call in new:
            if not call.is_over:
                self._start(call)

    def add(self, call: IncomingCall, piece: bytes) -> None:
        """Something came of a call's messages."""
        try:
            call.add(piece)
        except CallFailed as error:
            self._end(call, error.code, error.details)
        else:
            self._tell(self._grants.refill(call))

    def end(self, call: IncomingCall) -> None:
        """A call's last byte has come."""
        call.is_whole = True
        if call.head.length not in (-1, call.body_bytes):
            self.refuse(call.stream, frames.PROTOCOL_ERROR)
        elif call.messages.missing_bytes:
            self._end(call, StatusCode.INTERNAL, "the last message is cut short")
        else:
            call.wake()

    def enlarge(self, stream: int, more: int) -> None:
        """The client has room for so many bytes more of a call."""
        call = self.calls.get(stream)
        if call is None:
            return
        call.window += more
        self.untaken.given(stream)
        if not more:
            self.refuse(stream, frames.PROTOCOL_ERROR)
        elif call.window > frames.MAX_WINDOW_BYTES:
            self.refuse(stream, frames.FLOW_CONTROL_ERROR)

    def resize(self, first_window: int) -> None:
        """Every stream has this window at first, also those that are open already.

        Raises:
            ProtocolError: one has more room then than a number can say.
        """
        sending = self._output.sending
        for call in self.calls.values():
            call.window += first_window - sending.first_window
            self.untaken.given(call.stream)
            if call.window > frames.MAX_WINDOW_BYTES:
                raise ProtocolError("a window is too large", frames.FLOW_CONTROL_ERROR)
        sending.first_window = first_window

    def late(self, stream: int) -> None:
        """A frame is for a call that has ended: too late if we ended it, else wrong."""
        if stream not in self._ended_early:
            self.refuse(stream, frames.STREAM_CLOSED)

    def late_trailers(self, stream: int) -> None:
        """Headers are for no call that goes on: too late if we ended it, else of a stream that cannot begin.

        Raises:
            ProtocolError: the stream was passed over, or its client has ended it (RFC 9113, 5.1.1).
        """
        if stream not in self._ended_early:
            raise ProtocolError("a stream begins that is over, or was passed over")

    def reset(self, stream: int) -> None:
        """The client wants no answer any more.

        Raises:
            ProtocolError: it has done so too often, too soon.
        """
        call = self.calls.get(stream)
        if call is None or time.monotonic() - call.began < RAPID_SECONDS:
            self.count()
        if call is not None:
            self.cancel(call)

    def refuse(self, stream: int, code: int) -> None:
        """End a stream with HTTP/2's error code, for what its client did."""
        self.count()
        call = self.calls.get(stream)
        if call is not None:
            self.cancel(call)
        self._output.add(self._reset(stream, code))

    def cancel(self, call: IncomingCall) -> None:
        """Nobody waits for it any more."""
        call.is_over = True
        task = call.task
        self._tell(self._forget(call))
        if task is not None and not task.done():
            # There are only so many of these, too, else a client could have any number by resets.
            self._cancelled.add(task)
            task.add_done_callback(self._cancelled.discard)
            task.cancel()

    def cancel_all(self) -> None:
        """The connection is gone."""
        self._new.clear()
        self.untaken.end()
        for call in [*self.calls.values()]:
            self.cancel(call)

    def count(self) -> None:
        """The client did what it should do seldom.

        Raises:
            ProtocolError: too often.
        """
        if self.patience.is_spent():
            raise ProtocolError("too many frames that bring nothing", frames.ENHANCE_YOUR_CALM)

    # --- what calls say

    def put(self, call: IncomingCall) -> None:
        """Send what it has, or as much as there is room for."""
        if self.calls.get(call.stream) is not call:
            return
        self._output.is_busy = True
        output, sending, stream = self._output, self._output.sending, call.stream
        size = sum(map(len, call.unsent))
        if size and not call.is_open:
            call.is_open = True
            output.add(frame_head(len(OPENING), frames.HEADERS, frames.END_HEADERS, stream), OPENING)
        has_room = size <= JOINED_BYTES and size <= sending.window and size <= call.window
        if sending.is_paused or (size and not has_room) or stream in sending.blocked:
            output.wait(call)
            self.untaken.watch(self._give_up)
            return
        if size:
            sending.window -= size
            call.window -= size
            output.add(frame_head(size, frames.DATA, 0, stream), *call.unsent)
            call.unsent = []
        output.add(call.sent())

    def taken(self, call: IncomingCall) -> None:
        """A message is its handler's: there is room for others."""
        if call.is_streamed:
            self._tell(self._grants.refill(call))

    def ended(self, call: IncomingCall) -> bytes:
        """It is answered; what is to follow."""
        self.patience.answered()
        rest = self._forget(call)
        return rest if call.is_whole else rest + self._reset(call.stream, frames.NO_ERROR)

    # --- within

    def _start(self, call: IncomingCall) -> None:
        refusal = call.head.refusal
        if refusal is not None:
            if refusal.code is None:
                call.refuse_http(refusal.http_status)
            else:
                call.finish(refusal.code, str(refusal))
            return
        call.task = self._begin(call)
        if call.task is not None and not call.is_over and call.deadline is not None:
            left = call.deadline - time.monotonic() + DEADLINE_GRACE_SECONDS
            call.timer = asyncio.get_running_loop().call_later(left, self._output.attempt, self._expire, call)

    def _expire(self, call: IncomingCall) -> None:
        if call.unsent:  # what is not read by now never will be
            self._give_up(call)
        else:
            self._end(call, StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _give_up(self, call: IncomingCall) -> None:
        self.cancel(call)
        self._output.add(self._reset(call.stream, frames.CANCEL))

    def _is_full(self) -> bool:
        if not (self._new and self._output.sending.blocked):
            return False
        return self.untaken.waiting_bytes > UNTAKEN_MESSAGES * self._limits.message_bytes

    def _end(self, call: IncomingCall, code: StatusCode, details: str) -> None:
        """Answer in place of its handler."""
        task = call.task
        call.finish(code, details)
        if task is not None:
            task.cancel()

    def _forget(self, call: IncomingCall) -> bytes:
        self.calls.pop(call.stream, None)
        call.task = None  # a cancelled one keeps its exception, which keeps the call
        self._output.sending.blocked.pop(call.stream, None)
        if call.timer is not None:
            call.timer.cancel()
        if self.on_idle is not None and not self.calls:
            asyncio.get_running_loop().call_soon(self._output.attempt, self.on_idle)
        if self._new:
            asyncio.get_running_loop().call_soon(self._output.attempt, self.begin_new)
        return self._grants.end(call)

    def _reset(self, stream: int, code: int) -> bytes:
        self._ended_early[stream] = None
        if len(self._ended_early) > ENDED_EARLY:
            del self._ended_early[next(iter(self._ended_early))]
        return frames.reset(stream, code)

    def _tell(self, told: bytes) -> None:
        if told:
            self._output.add(told)
