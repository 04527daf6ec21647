"""Replies that a client gives no room: how many bytes of them wait, and for how long."""

import asyncio
from collections.abc import Callable

from gateway.http2.incoming import IncomingCall
from gateway.http2.output import Output

UNTAKEN_SECONDS = 30.0
"""A reply that is given no room for so long, or up to twice that, is given up: as TCP_USER_TIMEOUT does with
who does not read at all (gateway/server.py)."""

GiveUp = Callable[[IncomingCall], None]


class Untaken:
    """The replies of one connection that wait for room.

    Args:
        output: of the connection.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._timer: asyncio.TimerHandle | None = None
        self._shut: set[int] = set()  # streams without room since the last look, 0 for the connection

    @property
    def waiting_bytes(self) -> int:
        """Of all replies that wait."""
        return sum(len(piece) for call in self._output.sending.blocked.values() for piece in call.unsent)

    def watch(self, give_up: GiveUp) -> None:
        """A reply has to wait: see that it does not for ever."""
        if self._timer is None:
            self._look_later(give_up)

    def given(self, stream: int) -> None:
        """The client has given room to a stream or, for 0, to the connection."""
        self._shut.discard(stream)

    def end(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self, give_up: GiveUp) -> None:
        sending = self._output.sending
        self._shut = {stream for stream, call in sending.blocked.items() if call.window <= 0}
        if sending.window <= 0:
            self._shut.add(0)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(UNTAKEN_SECONDS, self._output.attempt, self._look, give_up)

    def _look(self, give_up: GiveUp) -> None:
        self._timer = None
        blocked = self._output.sending.blocked
        for stream, call in [*blocked.items()]:
            if 0 in self._shut or stream in self._shut:
                give_up(call)
        if blocked:
            self._look_later(give_up)
