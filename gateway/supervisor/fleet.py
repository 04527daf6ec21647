"""All processes of one gateway: starts them, starts again what has ended, and speaks with them as one."""

import asyncio
import signal
import socket
import tempfile
from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from gateway.admin.overrides import Change, Overrides
from gateway.admin.processes import Answer
from gateway.listener import Shares
from gateway.metrics import Metrics
from gateway.process_channel import ChannelClosed
from gateway.supervisor.back_off import BackOff
from gateway.supervisor.member import Member
from gateway.supervisor.merging import ProcessTotals, from_json, page, to_json

UNUSABLE = 2
"""The exit status of a process that cannot use its configuration; it has said why."""
READY_SECONDS = 1.0
SPREAD_SECONDS = 1.0
"""How often what one process has taken back by itself is looked for."""
SCRAPE_SECONDS = 5.0
ANSWER_SECONDS = 5.0
LONG_SECONDS = {"reload": 120.0, "void_redis": 60.0}
"""How long a process may take for what takes long: a reload loads and warms up models, and a void looks at
every key of Redis. Anything else has `ANSWER_SECONDS`."""

RELOAD = {"ask": "reload"}

_log = structlog.get_logger()


class Unusable(Exception):
    """A process could not use the configuration at its first start, and has said why."""


class Fleet:
    """The processes; the admin port's `Processes`.

    Args:
        size: how many there are to be.
        http: the HTTP port's socket.
        grpc: the gRPC port's.

    Attributes:
        turn: held while a process joins, too: no change falls between.
        leaving: set when all are to end.
    """

    def __init__(self, size: int, http: socket.socket, grpc: socket.socket) -> None:
        self._http = http
        self._shares_file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._shares_file.truncate(Shares.size_bytes(size))
        self._shares = Shares(self._shares_file.fileno())
        for process in range(size):
            self._shares.leave(process)
        self._grpc = grpc
        self._members: dict[int, Member | None] = dict.fromkeys(range(size))
        self._restarts = dict.fromkeys(range(size), 0)
        self._last_overrides: list[Mapping[str, Any]] = []  # of the process that ended last
        self._last_texts: Mapping[str, str] = {}  # of the last that had any
        self._reloads = 0
        self._first_serves = asyncio.Event()
        self._totals = ProcessTotals()
        self._registry = CollectorRegistry()
        own = Metrics(CollectorRegistry())
        own.processes.set_function(lambda: len(self._serving()))
        self._restarted = own.process_restarts
        for metric in (own.processes, own.process_restarts):
            self._registry.register(metric)
        self.turn = asyncio.Lock()
        self.leaving = asyncio.Event()

    async def run(self) -> None:
        """Keep every process running until `leaving` is set and all have ended.

        The first starts alone: what is wrong with the configuration is said once.

        Raises:
            Unusable: a process cannot use the configuration, and none has served with it yet.
        """
        spreading = asyncio.create_task(self._keep_spreading())
        try:
            async with asyncio.TaskGroup() as group:
                for process in self._members:
                    group.create_task(self._keep(process))
        finally:
            spreading.cancel()

    async def stop(self, limit_seconds: float) -> None:
        """Tell every process to drain and end; one that has not after `limit_seconds` is killed."""
        self.leaving.set()
        self._first_serves.set()  # nobody is to wait for it any more
        for member in self._living():
            member.signal(signal.SIGTERM)
        for _ in range(round(10 * limit_seconds)):
            if not self._living():
                return
            await asyncio.sleep(0.1)
        for member in self._living():
            _log.error("process_killed", process=member.process, pid=member.pid, after_seconds=limit_seconds)
            member.signal(signal.SIGKILL)

    async def ask(self, question: Mapping[str, Any]) -> list[Answer]:
        """The same question to each process that serves."""
        members = self._serving()
        self._reloads += question["ask"] == "reload"
        said = await asyncio.gather(*(member.ask(question, _limit(question)) for member in members))
        return [Answer(member.process, told) for member, told in zip(members, said, strict=True)]

    async def ask_first(self, question: Mapping[str, Any]) -> Answer:
        """A question that one process can answer for all."""
        for member in self._serving():
            said = await member.ask(question, _limit(question))
            if "failed" not in said:
                return Answer(member.process, said)
        return Answer(0, {"failed": "no process answers"})

    async def metrics_page(self) -> bytes:
        """Of all processes, also of those that have ended; one that does not answer counts as last seen.

        One that still loads its models has counted nothing, and would only keep the page waiting.
        """
        await asyncio.gather(*(self._scrape(member) for member in self._serving()))
        return page(self._totals.now(from_json(to_json(self._registry))))

    async def is_ready(self) -> bool:
        """Whether any process takes requests, and they are not about to end."""
        if self.leaving.is_set():
            return False
        asked = [member.ask({"ask": "ping"}, READY_SECONDS) for member in self._serving()]
        for answered in asyncio.as_completed(asked):
            if (await answered).get("ready"):
                return True
        return False

    def states(self) -> list[dict[str, Any]]:
        """Each process."""
        return [
            {
                "process": process,
                "pid": member.pid if member else None,
                "state": "ended" if member is None else "serving" if member.serves else "starting",
                "restarts": self._restarts[process],
                "up_seconds": round(member.up_seconds, 3) if member else 0.0,
            }
            for process, member in self._members.items()
        ]

    async def _keep(self, process: int) -> None:
        """Start a process, and start it again when it ends."""
        back_off = BackOff()
        if process:
            await self._first_serves.wait()
        while not self.leaving.is_set():
            reloads = self._reloads
            try:
                member = await Member.start(
                    process, self._http, self._grpc, self._shares_file.fileno(), self._known_texts()
                )
            except OSError as error:
                _log.error("process_not_started", process=process, error=str(error))
                await self._pause(back_off.after(0.0))
                continue
            self._members[process] = member
            if self.leaving.is_set():
                member.signal(signal.SIGTERM)
            joining = asyncio.create_task(self._join(member, reloads))
            status = await member.ended()
            await joining
            self._members[process] = None
            self._shares.leave(process)
            self._last_overrides = member.overrides
            self._last_texts = member.texts or self._last_texts
            self._totals.ended(member.pid)
            if self.leaving.is_set():
                return
            if status == UNUSABLE and not self._first_serves.is_set():
                raise Unusable
            wait_seconds = back_off.after(member.up_seconds)
            _log.error(
                "process_lost", process=process, pid=member.pid, status=status, again_in_seconds=wait_seconds
            )
            await self._pause(wait_seconds)
            self._restarts[process] += 1
            self._restarted.inc()

    async def _join(self, member: Member, reloads: int) -> None:
        """Let a process listen that was started after so many reloads."""
        try:
            await member.started()
            async with self.turn:
                if reloads != self._reloads:  # it may have read what was there before
                    await member.ask(RELOAD, _limit(RELOAD))
                await member.join(self._known_overrides())
        except ChannelClosed:
            return  # it has ended, and `_keep` sees to that
        self._first_serves.set()

    async def _keep_spreading(self) -> None:
        """A canary that one process has taken back is taken back by all: each sees its own requests only.

        Once: after a reload another process may have its weight again a moment before that one has.
        """
        while True:
            await asyncio.sleep(SPREAD_SECONDS)
            async with self.turn:
                for member in self._serving():
                    for canary in set(member.rolled_back) - member.spread:
                        if await self._take_back(*canary, member):
                            member.spread.add(canary)

    async def _take_back(self, model: str, label: str, first: Member) -> bool:
        """Whether every other process has done it."""
        change = Change("weight", model, label, 0.0).to_json()
        others = [other for other in self._serving() if other is not first and change not in other.overrides]
        if others:
            _log.warning(
                "canary_taken_back_everywhere", model=model, label=label or None, first=first.process
            )
            question = {"ask": "change", "change": change}
            said = await asyncio.gather(*(other.ask(question, ANSWER_SECONDS) for other in others))
            return not any("failed" in told for told in said)
        return True

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.leaving.wait()
        except TimeoutError:
            return

    async def _scrape(self, member: Member) -> None:
        told = await member.ask({"ask": "metrics"}, SCRAPE_SECONDS)
        if "metrics" in told and self._members[member.process] is member:
            self._totals.saw(member.pid, from_json(told["metrics"]))

    def _known_overrides(self) -> list[Mapping[str, Any]]:
        """What holds now: as the processes told last, or, where none serves, the last that did."""
        serving = self._serving()
        if not serving:
            return self._last_overrides
        changes = Overrides(Change(**told) for member in serving for told in member.overrides)
        return [change.to_json() for change in changes]

    def _known_texts(self) -> Mapping[str, str]:
        """Of a configuration that is served, or was last."""
        return next((member.texts for member in self._serving() if member.texts), self._last_texts)

    def _living(self) -> list[Member]:
        return [member for member in self._members.values() if member is not None]

    def _serving(self) -> list[Member]:
        return [member for member in self._living() if member.serves]


def _limit(question: Mapping[str, Any]) -> float:
    return LONG_SECONDS.get(question["ask"], ANSWER_SECONDS)
