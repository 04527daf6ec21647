"""A client of our gRPC server that keeps to the rules, as h2 does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

from tests.unit.http2.server.server_rig import HEADERS, SOON, Echo, enveloped, serving


class H2Client:
    """A connection that keeps to the rules, as h2 does.

    Attributes:
        h2: its state.
        replies: body, trailers and reset of each stream.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.ended: dict[int, Any] = {}
        self.is_told_to_leave = False
        self.gives_room = True
        self._reader, self._writer = reader, writer
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None]

    @classmethod
    async def to(cls, address: str, window: int) -> Self:
        """Connect."""
        host, _, port = address.partition(":")
        client = cls(*await asyncio.open_connection(host, int(port)))
        client.h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        client.h2.initiate_connection()
        client.flush()
        client._task = asyncio.create_task(client._read())
        return client

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    async def _read(self) -> None:
        while chunk := await self._reader.read(65_536):
            for event in self.h2.receive_data(chunk):
                self._on(event)
            self.flush()
            self._changed.set()

    def _on(self, event: Any) -> None:
        if isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + (event.data or b"")
            if self.gives_room:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, ResponseReceived | TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, StreamEnded):
            self.ended[event.stream_id] = 0
        elif isinstance(event, StreamReset):
            self.ended.setdefault(event.stream_id, int(event.error_code))
        elif isinstance(event, ConnectionTerminated):
            self.is_told_to_leave = True

    def start(self, path: str, *extra: tuple[str, str]) -> int:
        stream = self.h2.get_next_available_stream_id()
        pairs = [(name, path if name == ":path" else value) for name, value in HEADERS]
        self.h2.send_headers(stream, [*pairs, *extra])
        self.flush()
        return stream

    async def send(self, stream: int, body: bytes, *, ends: bool = True, padding: int | None = None) -> None:
        """As fast as the windows allow."""
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            room -= 0 if padding is None else padding + 1
            if room <= 0:
                self._changed.clear()
                async with asyncio.timeout(SOON):
                    await self._changed.wait()
                continue
            self.h2.send_data(stream, body[:room], pad_length=padding)
            body = body[room:]
            self.flush()
        if ends:
            self.h2.end_stream(stream)
            self.flush()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(SOON):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def call(self, path: str, message: bytes, *extra: tuple[str, str], **options: Any) -> bytes:
        """A call's reply."""
        stream = self.start(path, *extra)
        await self.send(stream, enveloped(message), **options)
        await self.until(lambda: stream in self.ended)
        assert self.trailers[stream]["grpc-status"] == "0", self.trailers[stream]
        return self.bodies[stream][5:]

    async def close(self) -> None:
        self._task.cancel()
        self._writer.transport.abort()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def by_h2(window: int = 65_535, **limits: Any) -> AsyncIterator[tuple[Echo, H2Client]]:
    """The server, and a client of h2."""
    async with serving(**limits) as (echo, server):
        client = await H2Client.to(server.address, window)
        try:
            yield echo, client
        finally:
            await client.close()
