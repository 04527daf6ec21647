"""What a server's connection writes: all that one turn of the event loop brings about in one piece."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from gateway.http2 import frames
from gateway.http2.incoming import IncomingCall
from gateway.http2.sending import Sending

WRITE_BYTES = 256 * 1024
"""What may lie in the transport before replies wait for the client to read on. Answers to pings and the like
do not wait, but few of those are borne (`patience.py`)."""


_log = structlog.get_logger()


class Output:
    """Collects frames, and sends what waits for room.

    Args:
        transport: of the connection.

    Attributes:
        sending: the windows.
        is_held: a flush is to come: nothing needs to be scheduled.
        is_busy: something of a call was sent, or has come, since the client's last ping.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(WRITE_BYTES)
        self.sending: Sending[IncomingCall] = Sending(self._write)
        self.is_held = False
        self.is_busy = False
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes | memoryview] = []

    def add(self, *parts: bytes | memoryview) -> None:
        """Send these in this turn of the loop."""
        self._parts += parts
        if not self.is_held:
            self.is_held = True
            self._loop.call_soon(self.attempt, self.flush)

    def attempt(self, act: Callable[..., None], *args: Any) -> None:
        """Do what an event or a timer asks for. Whatever of ours breaks in it ends this connection alone."""
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            _log.error("grpc_connection_failed", exc_info=error)
            if not self._transport.is_closing():
                self._transport.write(frames.goaway(frames.LAST_STREAM, frames.INTERNAL_ERROR))
                self._transport.close()

    def wait(self, call: IncomingCall) -> None:
        """Send what a call has once there is room."""
        self.sending.blocked[call.stream] = call
        self.add()

    def flush(self) -> None:
        """Send it now."""
        self.is_held = True
        if self._parts:
            self._write([])
        if self.sending.blocked:
            self.sending.go_on()
            if self._parts:
                self._write([])
        self.is_held = False

    def pause(self) -> None:
        """The client does not read as fast as we write."""
        self.sending.is_paused = True

    def resume(self) -> None:
        """It has read."""
        self.sending.is_paused = False
        self.flush()

    def _write(self, parts: list[bytes | memoryview]) -> None:
        """Write these after all that was collected."""
        self.is_busy = self.is_busy or bool(parts)
        whole, self._parts = self._parts + parts, []
        if not self._transport.is_closing():
            self._transport.writelines(whole)
