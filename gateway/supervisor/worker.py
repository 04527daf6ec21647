"""One gateway process of several: it shares the ports, and answers to the supervisor.

It lives as long as the supervisor's end of the channel: when the supervisor is killed the kernel closes it,
and the process ends as at SIGTERM: what is in flight is answered first.
"""

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import structlog

from gateway.admin.overrides import Change
from gateway.app import Gateway
from gateway.listener import Port, Shares
from gateway.process_channel import Channel, Message
from gateway.reload import Reloads
from gateway.server import Bound, listen, reloading, told_to_stop
from gateway.settings import ServerSettings, Settings
from gateway.supervisor.merging import to_json

GRACE_SECONDS = 5.0
"""Beyond what draining may take: a process without a supervisor that has not ended by then is ended hard."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seat:
    """What the supervisor gives a process on its command line.

    Attributes:
        process: its place, from 0.
        channel: the number of the open file that is its end of the channel.
        http: the number of the open file that is the HTTP port's socket.
        grpc: likewise of the gRPC port.
        shares: the number of the open file with every process' number of connections.
        texts: the number of the open file with the last configuration that was served.
    """

    process: int
    channel: int
    http: int
    grpc: int
    shares: int
    texts: int

    @classmethod
    def read(cls, text: str) -> "Seat":
        """What `str` wrote."""
        return cls(*map(int, text.split(",")))

    def __str__(self) -> str:
        return ",".join(str(getattr(self, each.name)) for each in fields(self))

    def last_texts(self) -> dict[str, str]:
        """`Settings.texts` of the last configuration that was served; empty when none was. Read it once."""
        with os.fdopen(self.texts, encoding="utf-8") as file:
            texts: dict[str, str] = json.load(file)
        return texts


async def work(gateway: Gateway, settings: ServerSettings, reloads: Reloads, seat: Seat) -> None:
    """Serve from when the supervisor says so until a signal comes, or until the supervisor is gone.

    Raises:
        ConfigurationError: a port is taken by somebody else.
    """
    stop = told_to_stop()
    worker = _Worker(gateway)
    with (
        socket.socket(fileno=seat.channel) as end,
        socket.socket(fileno=seat.http) as http,
        socket.socket(fileno=seat.grpc) as grpc,
    ):
        async with gateway, reloading(gateway, reloads, stop):
            channel = await Channel.over(end, worker.answer)
            supervised = asyncio.create_task(channel.run())
            orphaned = partial(_orphaned, stop, settings)
            supervised.add_done_callback(orphaned)
            joined = asyncio.create_task(worker.joined.wait())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait((joined, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            joined.cancel()
            if worker.joined.is_set():
                shares = Shares(seat.shares)
                bound = Bound(
                    http,
                    grpc,
                    http_share=shares.of(Port.HTTP, seat.process),
                    grpc_share=shares.of(Port.GRPC, seat.process),
                )
                await listen(gateway, settings, bound, stop, began=worker.listening)
            supervised.remove_done_callback(orphaned)
            supervised.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervised
    _log.info("gateway_stopped")


class _Worker:
    """Answers the supervisor.

    Attributes:
        joined: set when the supervisor lets it listen.
        listening: set when it does.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._told: Settings | None = None
        self._configurations = 0
        self.joined = asyncio.Event()
        self.listening = asyncio.Event()

    async def answer(self, question: Message) -> dict[str, Any]:
        match question["ask"]:
            case "metrics":
                return {"metrics": await asyncio.to_thread(to_json, self._gateway.metrics.registry)}
            case "pulse":
                return {**await self._gateway.control.answer({"ask": "ping"}), **self._news(question["seen"])}
            case "join":
                self._take_over(question["overrides"])
                self.joined.set()
                await self.listening.wait()
                return {}
            case _:
                return await self._gateway.control.answer(question)

    def _news(self, seen: int) -> Message:
        """The texts of what is served, for who has not seen it: the next process may find files of no use."""
        settings = self._gateway.front.settings
        if settings is not self._told:
            self._told = settings
            self._configurations += 1
        if seen == self._configurations:
            return {}
        return {"number": self._configurations, "texts": settings.texts}

    def _take_over(self, overrides: list[Mapping[str, Any]]) -> None:
        """Make the changes that hold in the other processes."""
        for told in overrides:
            try:
                self._gateway.control.change(Change(**told))
            except Exception as error:  # noqa: BLE001 - an override that fits no more must keep no process down
                _log.warning("override_not_taken", **told, error=str(error))


def _orphaned(stop: asyncio.Event, settings: ServerSettings, _: asyncio.Task[None]) -> None:
    """The channel has ended: so must this process, be it that its event loop never gets to it again."""
    if stop.is_set():
        return
    _log.warning("supervisor_lost", pid=os.getppid())
    stop.set()
    seconds = settings.drain_delay_seconds + settings.drain_seconds + GRACE_SECONDS

    def end() -> None:
        time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
