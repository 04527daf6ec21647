"""How much the streams of one connection may bring: a first window each, and more for large messages in turn.

The connection's own window never ends: it is the streams' that bound what is held.
"""

from gateway.http2 import frames
from gateway.http2.incoming import IncomingCall

MESSAGES = 4
"""So many of the largest messages may be on their way at a time; others wait with what fits a first window.
More than one, so that a caller who stops in the middle of its message holds up nobody else, be it one of
those that share a proxy's connection."""
PADDING_BYTES = 256
"""What a frame may have beside what is in it: without room for that, who pads would never get to the end."""


class Grants:
    """The windows of a connection's streams.

    Args:
        max_message_bytes: the largest message.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._limit = MESSAGES * max_message_bytes
        self._granted = 0
        self._waiting: dict[int, IncomingCall] = {}

    def refill(self, call: IncomingCall) -> bytes:
        """What to tell the client once a call's messages have grown or shrunk: frames, or nothing."""
        told = b""
        if call.granted and (call.messages.whole or not call.takes_more):
            told = self._give_back(call)
        if call.takes_more:
            told += self._more(call)
        return told

    def end(self, call: IncomingCall) -> bytes:
        """It brings nothing any more; what to tell the client for others."""
        self._waiting.pop(call.stream, None)
        return self._give_back(call) if call.granted else b""

    def _more(self, call: IncomingCall) -> bytes:
        """Make room for what a stream's handler has taken, and for a message that the handler waits for."""
        messages, more = call.messages, 0
        if call.is_streamed:
            free = frames.WINDOW_BYTES - messages.held_bytes - call.room
            more = free if free >= frames.WINDOW_BYTES // 2 else 0
        missing = 0 if messages.whole else messages.missing_bytes
        lacks = missing + PADDING_BYTES - call.room - more
        if missing and lacks > 0:
            if self._granted and self._granted + lacks > self._limit:
                self._waiting[call.stream] = call
            else:
                self._granted += lacks
                call.granted += lacks
                more += lacks
        call.room += more
        return frames.window_update(call.stream, more) if more else b""

    def _give_back(self, call: IncomingCall) -> bytes:
        self._granted -= call.granted
        call.granted = 0
        waiting, self._waiting = self._waiting, {}
        return b"".join(map(self._more, waiting.values()))
