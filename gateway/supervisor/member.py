"""One gateway process from its start to its end, as the supervisor has it."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from gateway.process_channel import Channel, ChannelClosed
from gateway.supervisor.silence import LOOK_SECONDS, STOPPED, Silence, see
from gateway.supervisor.worker import Seat

JOIN_SECONDS = 30.0
"""How long a process may take to listen: nothing else can be changed meanwhile."""
HANG_SECONDS = 2.0
"""How long an event loop may be busy with something else before it is logged; `silence` ends it later."""

_log = structlog.get_logger()


class Member:
    """One process. It has its own session: Ctrl-C reaches the supervisor, which ends them in order.

    Args:
        process: its place, from 0.
        child: the process.
        channel: to it.

    Attributes:
        serves: whether it has joined.
        overrides: as it told last.
        rolled_back: the canaries that it has taken back by itself, by model and label, as it told last.
        spread: those of them that the other processes have taken back, too.
        texts: `Settings.texts` of what it serves, as it told last.
    """

    def __init__(self, process: int, child: subprocess.Popen[bytes], channel: Channel) -> None:
        self.process = process
        self._child = child
        self._channel = channel
        self._started = time.monotonic()
        self._closed = asyncio.create_task(channel.run())
        self._watch = asyncio.create_task(self._keep_looking())
        self.serves = False
        self.overrides: list[Mapping[str, Any]] = []
        self.rolled_back: list[tuple[str, str]] = []
        self.spread: set[tuple[str, str]] = set()
        self.texts: Mapping[str, str] = {}
        self._seen = 0  # how many configurations it had told of then

    @classmethod
    async def start(
        cls, process: int, http: socket.socket, grpc: socket.socket, shares: int, texts: Mapping[str, str]
    ) -> "Member":
        """Start a process: this program once more, with a seat, and the last configuration that was served.

        Raises:
            OSError: the system has no process or file left.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, tempfile.TemporaryFile("w+", encoding="utf-8") as last:
                json.dump(texts, last)
                last.seek(0)
                files = (theirs.fileno(), http.fileno(), grpc.fileno(), shares, last.fileno())
                argv = [sys.executable, *sys.orig_argv[1:], "--worker", str(Seat(process, *files))]
                child = subprocess.Popen(  # noqa: ASYNC220, S603 - our own program; a fork takes milliseconds
                    argv, pass_fds=files, start_new_session=True
                )
        except OSError:
            ours.close()
            raise
        return cls(process, child, await Channel.over(ours))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    @property
    def up_seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started

    async def started(self) -> None:
        """Wait until it has loaded its models and asked its endpoints.

        Raises:
            ChannelClosed: it has ended instead.
        """
        await self._channel.ask({"ask": "ping"}, None)

    async def join(self, overrides: Sequence[Mapping[str, Any]]) -> None:
        """Let it listen, with these overrides.

        Raises:
            ChannelClosed: it has ended instead, or hung and was ended.
        """
        try:
            await self._channel.ask({"ask": "join", "overrides": list(overrides)}, JOIN_SECONDS)
        except TimeoutError as error:
            self._kill("not listening", JOIN_SECONDS)
            raise ChannelClosed from error
        self.serves = True

    async def ask(self, question: Mapping[str, Any], timeout_seconds: float | None) -> dict[str, Any]:
        """Its answer; `failed` in it says why there is none."""
        try:
            said = await self._channel.ask(dict(question), timeout_seconds)
        except TimeoutError:
            return {"failed": f"no answer in {timeout_seconds:g} s"}
        except ChannelClosed:
            return {"failed": "it has ended"}
        self.overrides = said.get("overrides", self.overrides)
        self.rolled_back = [(model, label) for model, label in said.get("rolled_back", self.rolled_back)]
        self.spread.intersection_update(self.rolled_back)
        return said

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self._child.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; its exit status, or minus the signal that ended it."""
        await self._closed
        self.serves = False
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch
        # The kernel closes files before it tells the parent; what closed its end and lives on is ended.
        for _ in range(100):
            if self._child.poll() is not None:
                break
            await asyncio.sleep(0.01)
        else:
            self._child.kill()
        return self._child.wait()

    async def _keep_looking(self) -> None:
        """Kill the process once it is lost."""
        answer: asyncio.Task[None] | None = None
        silence = Silence()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if answer is None or answer.done():
                answer = asyncio.create_task(self._pulse())
                silence = Silence()
                continue
            why = silence.look(see(self.pid, time.monotonic()))
            if why and (self.serves or why == STOPPED):  # what loads its models answers nothing meanwhile
                self._kill(why, silence.seconds)
                return
            if self.serves and silence.seconds == HANG_SECONDS:
                _log.warning("process_hangs", process=self.process, pid=self.pid, seconds=HANG_SECONDS)

    async def _pulse(self) -> None:
        """Ask whether it lives, and for its configuration when that is another."""
        said = await self.ask({"ask": "pulse", "seen": self._seen}, None)
        if "texts" in said:
            self.texts, self._seen = said["texts"], said["number"]

    def _kill(self, why: str, after_seconds: float) -> None:
        _log.error("process_killed", process=self.process, pid=self.pid, why=why, after_seconds=after_seconds)
        self._child.kill()
