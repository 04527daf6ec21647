"""A closed loop over gRPC that costs the client little: HTTP/2 frames (RFC 9113) put together beforehand.

A gRPC library takes 100 us of CPU or more for a call, about what is measured: on a machine that client and
server share it would be the bottleneck. Here a call is two frames whose bytes are ready but for the stream's
number, and of a reply only the frames' heads are read. So it knows one method and small messages; a call that
gets no message of at least the answer's length ends the load.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import uvloop

from loadtests.bench.closed_loop import LoadFailed, Loop

METHOD = "/inference.GRPCInferenceService/ModelInfer"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
HEAD_BYTES = 9
WINDOW_BYTES = 65_535
"""What a side may send at first, over a connection and a stream; the other gives back what it has read."""
MAX_MESSAGE_BYTES = 16_384 - 5
"""With gRPC's prefix it fits a frame, and a stream's first window."""
ANSWER_BYTES = 40
"""Which an answer has at least: ten probabilities. One without a message is a failure."""
HUGE_WINDOW = (1 << 30).to_bytes(4, "big")
DRAIN_SECONDS = 10.0


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def header_block(headers: Sequence[tuple[str, str]]) -> bytes:
    """Headers in HPACK (RFC 7541), each a literal outside the tables; ASCII of up to 126 bytes each."""
    texts = [part.encode() for header in headers for part in header]
    return b"".join(
        b"\0%c%b%c%b" % (len(name), name, len(value), value)
        for name, value in zip(texts[::2], texts[1::2], strict=True)
    )


class _Connection(asyncio.Protocol):
    """One connection with some calls in flight.

    Args:
        calls: headers and message of each call, as frames without the stream's number.
        in_flight: how many at once.
        until: no call begins after this, by the monotonic clock.
    """

    def __init__(self, calls: Iterator[tuple[bytes, bytes]], in_flight: int, until: float) -> None:
        self._calls = calls
        self._in_flight = in_flight
        self._until = until
        self._streams = itertools.count(1, 2)
        self._open: dict[int, float] = {}
        self._received: dict[int, int] = {}
        self._waiting = 0
        self._window = WINDOW_BYTES
        self._buffer = b""
        self.seconds: list[float] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from no class of asyncio
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW_UPDATE, 0, 0, HUGE_WINDOW))
        self._waiting = self._in_flight
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(LoadFailed(f"the connection ended with calls in flight: {exc}"))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at = 0
        while len(data) - at >= HEAD_BYTES:
            end = at + HEAD_BYTES + int.from_bytes(data[at : at + 3], "big")
            if len(data) < end:
                break
            self._frame(
                data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data, at, end
            )
            at = end
        self._buffer = data[at:]
        self._begin()

    def _frame(self, kind: int, flags: int, stream: int, data: bytes, at: int, end: int) -> None:
        if kind == DATA:
            self._received[stream] = self._received.get(stream, 0) + end - at - HEAD_BYTES
        elif kind == HEADERS and flags & END_STREAM:
            self._answered(stream)
        elif kind == WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(data[at + HEAD_BYTES : end], "big")
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, data[at + HEAD_BYTES : end]))
        elif kind in (RST_STREAM, GOAWAY):
            self._fail(f"the server ended {'a call' if kind == RST_STREAM else 'the connection'}")

    def _answered(self, stream: int) -> None:
        self.seconds.append(time.monotonic() - self._open.pop(stream))
        if self._received.pop(stream, 0) < ANSWER_BYTES:
            self._fail("a call was answered without a message: it failed")
        self._waiting += 1

    def _begin(self) -> None:
        """Begin as many calls as wait, while time and the window allow."""
        now = time.monotonic()
        parts: list[bytes] = []
        while self._waiting and now < self._until and self._window >= MAX_MESSAGE_BYTES + 5:
            stream = next(self._streams)
            number = stream.to_bytes(4, "big")
            headers, message = next(self._calls)
            parts += headers[:5], number, headers[5:], message[:5], number, message[5:]
            self._window -= len(message) - 5
            self._open[stream] = now
            self._waiting -= 1
        if parts:
            self._transport.write(b"".join(parts))
        elif not self._open and now >= self._until and not self.ended.done():
            self.ended.set_result(None)

    def _fail(self, text: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(LoadFailed(text))

    def close(self) -> None:
        self.ended.cancel()
        self._transport.abort()


def _without_number(whole: bytes) -> bytes:
    return whole[:5] + whole[HEAD_BYTES:]


def grpc_loop(
    address: str,
    messages: Sequence[bytes],
    *,
    connections: int,
    in_flight: int,
    seconds: float,
    metadata: Sequence[tuple[str, str]] = (),
) -> Loop:
    """Call ModelInfer with serialised messages in turn, again and again.

    Args:
        address: host:port.
        messages: of up to 16,379 bytes each.
        connections: how many.
        in_flight: calls at once, over all of them; a multiple of `connections`.
        seconds: how long, above 0.
        metadata: of each call; names in lower case.

    Raises:
        LoadFailed: a call failed.
        ValueError: a message is too long.
    """
    if max(map(len, messages)) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message is longer than {MAX_MESSAGE_BYTES} bytes")
    headers = [(":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", address)]
    headers += [("te", "trailers"), ("content-type", "application/grpc"), *metadata]
    head = _without_number(frame(HEADERS, END_HEADERS, 0, header_block(headers)))
    calls = itertools.cycle(
        [
            (head, _without_number(frame(DATA, END_STREAM, 0, b"\0" + len(one).to_bytes(4, "big") + one)))
            for one in messages
        ]
    )

    async def run() -> Loop:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        host, _, port = address.partition(":")
        opened = [
            (
                await loop.create_connection(
                    lambda: _Connection(calls, in_flight // connections, began + seconds),
                    host,
                    int(port),
                )
            )[1]
            for _ in range(connections)
        ]
        try:
            async with asyncio.timeout(seconds + DRAIN_SECONDS):
                await asyncio.gather(*(one.ended for one in opened))
        except TimeoutError as error:
            raise LoadFailed(f"{address} left calls unanswered for {DRAIN_SECONDS:.0f} s") from error
        finally:
            for one in opened:
                one.close()
        took = [second for one in opened for second in one.seconds]
        p50, p99 = np.percentile(took or [0.0], (50, 99)) * 1e3
        return Loop(len(took), time.monotonic() - began, float(p50), float(p99))

    return uvloop.run(run())
