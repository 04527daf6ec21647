"""What every backend over gRPC shares: its channel, and how a reply is parsed."""

import asyncio
import math
import socket
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from grpc import StatusCode

from gateway import __version__
from gateway.backends.channel_tls import ChannelTls
from gateway.errors import BadReply
from gateway.http2.call import Call, withdraw
from gateway.http2.connection import Connection
from gateway.http2.frames import header
from gateway.request_id import outgoing_metadata

M = TypeVar("M", bound=Message)
Method = Callable[..., asyncio.Future[bytes]]

ENVELOPE_BYTES = 64 * 1024
"""Room for names, shapes and parameters around the tensors of the largest message."""
CONNECT_SECONDS = 5.0
"""How long one address may take to connect, TLS and HTTP/2's settings included."""
CLOSE_SECONDS = 1.0
VANISHED_SECONDS = 20
"""A server that reads nothing for so long, or whose system does not answer TCP itself on an idle connection,
has vanished with its machine or stands still; without this it takes a quarter of an hour to say so."""
FIRST_BACKOFF_SECONDS, BACKOFF_FACTOR, MAX_BACKOFF_SECONDS = 0.1, 1.6, 1.0
"""After an address could not be reached, calls fail at once for so long. After servers that left without an
answer to anything, calls wait for so long until the next connection."""
DEADLINE_GRACE_SECONDS = 0.1
"""How much later a server's deadline is than the caller's: who waits here leaves first, and knows why."""


class GrpcChannel:
    """Unary calls to `host:port`, over one connection, which is made when it is needed and never pinged.

    Calls wait while it is being made; when that fails they fail, and so do others for a moment. The name is
    looked up each time. A call that the server certainly has not begun is sent again by itself.

    Args:
        address: `host:port`.
        max_request_bytes: the tensors of the largest message.
        tls: how it is secured; None for a channel in the clear.
    """

    def __init__(self, address: str, *, max_request_bytes: int, tls: ChannelTls | None = None) -> None:
        self._address = address
        self._limit = max_request_bytes + ENVELOPE_BYTES
        self._tls = tls
        self._renewals = tls.renewals if tls else 0
        self._methods: dict[str, Method] = {}
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: dict[Call, None] = {}
        self._failure = ""
        self._failures = 0
        self._retry_at = -math.inf
        self._fruitless = 0
        self._look_up: asyncio.Future[list[Any]] | None = None

    def method(self, path: str) -> Method:
        """The call of the method at `path`.

        What comes back takes a serialised message, and `timeout` in seconds by name, and answers with a
        future of one (for `parse`), or of a CallFailed. Who cancels it ends the call. It sends the request's
        id along, and what the server needs to go on with the trace.
        """
        method = self._methods.get(path)
        if method is None:
            always = (
                (":method", "POST"),
                (":scheme", "https" if self._tls else "http"),
                (":path", path),
                (":authority", (self._tls and self._tls.server_name) or self._address),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", f"inferway/{__version__}"),
            )
            headers = b"".join(header(*pair) for pair in always)
            method = self._methods[path] = lambda message, *, timeout=None: self._call(
                headers, message, timeout
            )
        return method

    async def aclose(self) -> None:
        """Close the connection; calls under way fail, and so does any other from now on."""
        self._failure, self._retry_at = "the channel is closed", math.inf
        ended: list[asyncio.Future[None]] = [connection.lost for connection in self._connections]
        if self._connecting is not None:
            self._connecting.cancel()
            ended.append(self._connecting)
            self._connecting = None
        if self._look_up is not None:
            self._look_up.cancel()
        self._fail_waiting(StatusCode.CANCELLED, self._failure)
        for connection in [*self._connections]:
            connection.close()
        if ended:
            await asyncio.wait(ended, timeout=CLOSE_SECONDS)
        for connection in [*self._connections]:
            connection.abort()

    def forget(self, call: Call) -> None:
        """Nobody waits for a call any more that waits for a connection."""
        self._waiting.pop(call, None)

    def withdraw(self, reply: asyncio.Future[bytes]) -> None:
        """End a call that has not been sent yet; one that the server may have goes on."""
        withdraw(self._waiting, reply)
        for connection in self._connections:
            connection.withdraw(reply)

    def _call(self, headers: bytes, message: bytes, timeout: float | None) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        for pair in outgoing_metadata() or ():
            headers += header(*pair)
        reply: asyncio.Future[bytes] = loop.create_future()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        call = Call(headers, message, self._limit, reply, deadline)
        if timeout is None:
            reply.add_done_callback(call.leave)
        else:
            timer = loop.call_later(timeout, call.fail, StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

            def leave(reply: asyncio.Future[bytes]) -> None:
                timer.cancel()
                call.leave(reply)

            reply.add_done_callback(leave)
        if self._tls is not None and self._renewals != self._tls.renewals:
            self._renew(self._tls.renewals)
        self._begin(call)
        return reply

    def _begin(self, call: Call) -> None:
        if call.reply.done():
            return  # its caller left in this very moment
        if self._connection is not None:
            self._connection.begin(call)
            return
        if self._connecting is None:
            if time.monotonic() < self._retry_at:
                call.fail(StatusCode.UNAVAILABLE, self._failure, was_sent=False)
                return
            self._connecting = self._start_connecting()
        call.place = self
        self._waiting[call] = None

    def _start_connecting(self) -> asyncio.Task[None]:
        """In a context of its own: the connection keeps it, and is no request's."""
        return asyncio.get_running_loop().create_task(self._connect(), context=Context())

    async def _connect(self) -> None:
        """Make the connection, and begin what waits for it, or let that fail."""
        try:
            if self._fruitless > 1:
                await asyncio.sleep(_backoff(self._fruitless - 1))
            connection = await self._reach()
        except Exception as error:  # noqa: BLE001 # whatever it is, calls must not wait for it
            self._failure = f"failed to connect to {self._address}: {str(error) or type(error).__name__}"
            self._failures += 1
            self._fruitless = 0  # the failures delay enough
            self._retry_at = time.monotonic() + _backoff(self._failures)
            self._connecting = None
            self._fail_waiting(StatusCode.UNAVAILABLE, self._failure)
            return
        self._failures = 0
        self._connection, self._connecting = connection, None
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            self._begin(call)

    async def _reach(self) -> Connection:
        """A connection to the first address that speaks HTTP/2.

        Raises:
            OSError: there is none, or no such name.
        """
        loop = asyncio.get_running_loop()
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        if self._look_up is None:
            # Only one at a time: it has a thread of the few there are, and no timeout gives that back.
            self._look_up = asyncio.ensure_future(loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM))
            self._look_up.add_done_callback(self._looked_up)
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await asyncio.shield(self._look_up)
        for number, (*_, place) in enumerate(found, 1):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await self._connect_to(str(place[0]), int(port), host)
            except OSError:
                if number == len(found):
                    raise
        raise ConnectionError(f"no address for {host}")

    async def _connect_to(self, ip: str, port: int, host: str) -> Connection:
        connection = Connection(self._limit, self._begin, lambda: self._drop(connection))
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: connection,
            ip,
            port,
            ssl=self._tls.context if self._tls else None,
            server_hostname=(self._tls.server_name or host) if self._tls else None,
        )
        connected = transport.get_extra_info("socket")
        if connected is not None:  # it was not given up at once
            _notice_the_vanished(connected)
        self._connections.add(connection)
        connection.lost.add_done_callback(lambda _: self._connections.discard(connection))
        try:
            await connection.is_ready
        except BaseException:
            transport.abort()
            raise
        if not connection.takes_calls:
            raise ConnectionError("the server has closed the connection at once")
        return connection

    def _looked_up(self, look_up: "asyncio.Future[list[Any]]") -> None:
        self._look_up = None
        if not look_up.cancelled():
            look_up.exception()  # who would have heard of it may have left

    def _drop(self, connection: Connection) -> None:
        """No call may begin on it any more."""
        if self._connection is connection:
            self._connection = None
            self._fruitless = 0 if connection.has_answered else self._fruitless + 1

    def _renew(self, renewals: int) -> None:
        """Let the calls under way end on the old connection; the next opens another, with the new files."""
        self._renewals = renewals
        if self._retry_at < math.inf:  # it is not closed
            self._retry_at = -math.inf
        if self._connection is not None:
            self._connection.drain()
        self._fruitless = 0
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = self._start_connecting() if self._waiting else None

    def _fail_waiting(self, code: StatusCode, details: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            call.fail(code, details, was_sent=False)


def parse(kind: type[M], reply: bytes) -> M:
    """The message of a reply.

    Raises:
        BadReply: it is none of that kind.
    """
    try:
        return kind.FromString(reply)
    except DecodeError as error:
        raise BadReply(f"the server answered with {len(reply)} bytes that are no {kind.__name__}") from error


def time_left(deadline: float) -> float | None:
    """What a call's gRPC deadline is to be, in seconds from now; None for a deadline that never passes.

    A server that is told need not begin what nobody waits for any more, also when the connection on which it
    would hear of the cancellation is lost.

    Args:
        deadline: of the request, a point of `time.monotonic()`.
    """
    left = deadline - time.monotonic()
    return None if left == math.inf else max(0.0, left) + DEADLINE_GRACE_SECONDS


def _backoff(times: int) -> float:
    """How long to wait after so many failures in a row, at least one."""
    return min(FIRST_BACKOFF_SECONDS * BACKOFF_FACTOR ** min(times - 1, 10), MAX_BACKOFF_SECONDS)


def _notice_the_vanished(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_USER_TIMEOUT", VANISHED_SECONDS * 1000),
        ("TCP_KEEPIDLE", VANISHED_SECONDS),
        ("TCP_KEEPINTVL", VANISHED_SECONDS // 4),
    ):
        if hasattr(socket, option):  # not every system has all
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
