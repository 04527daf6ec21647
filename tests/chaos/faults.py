"""The faults: each hurts one part of a running stack, and is undone again."""

import asyncio
import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psutil

from services.launch import Running
from tests.chaos import lossy

SLOW_TURN_SECONDS = 0.05
"""A slowed process runs for a part of each such turn, and is stopped for the rest."""


@dataclass(slots=True)
class Victim:
    """A server that is killed and started again.

    Attributes:
        running: as it runs now.
        admin: of a gateway: its admin port, as host:port.
    """

    running: Running
    admin: str = ""
    _slowing: asyncio.Task[None] | None = field(default=None)

    def processes(self, name: str = "") -> Sequence[psutil.Process]:
        """The server's process, or its children whose command has `name` in it."""
        whole = psutil.Process(self.running.pid)
        if not name:
            return [whole]
        alive = (c for c in whole.children(recursive=True) if c.status() != psutil.STATUS_ZOMBIE)
        return [child for child in alive if name in " ".join(child.cmdline())]

    async def kill(self) -> None:
        """SIGKILL to the server and to all of its group."""
        await asyncio.to_thread(self.running.kill)

    @property
    def has_ended(self) -> bool:
        """Whether the server itself is gone."""
        return self.running.process.poll() is not None

    async def start_again(self) -> None:
        """Start what was killed or has ended; does not wait until it is ready."""
        await self.kill()  # its group, too: children may outlive it
        self.running = await asyncio.to_thread(Running, self.running.launch)

    async def send(self, number: signal.Signals, name: str = "") -> None:
        """Send a signal to the server, or to those of its children."""
        hit = self.processes(name)
        assert hit, f"{self.running.launch.name} has no process '{name}'"
        for process in hit:
            process.send_signal(number)

    def stop(self) -> None:
        """End what runs now."""
        self.running.stop()

    async def slow(self, ratio: float) -> None:
        """Let it and its children run for 1/`ratio` of the time."""
        self._slowing = asyncio.create_task(self._take_turns(ratio))

    async def at_full_speed(self) -> None:
        """Undo `slow`."""
        assert self._slowing is not None
        self._slowing.cancel()
        await asyncio.gather(self._slowing, return_exceptions=True)
        self._to_group(signal.SIGCONT)

    async def _take_turns(self, ratio: float) -> None:
        while True:
            self._to_group(signal.SIGSTOP)
            await asyncio.sleep(SLOW_TURN_SECONDS * (1 - 1 / ratio))
            self._to_group(signal.SIGCONT)
            await asyncio.sleep(SLOW_TURN_SECONDS / ratio)

    def _to_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running.pid, number)


LOST_RATIO = 0.1

Act = Callable[[Victim], Awaitable[None]]


async def nothing(_: Victim) -> None:
    """Undo what heals by itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens and how it ends.

    Attributes:
        name: of its row in the table.
        victim: whom it happens to.
        hurt: begins it.
        mend: ends it.
        loses_seconds: 0 where no request may fail. Else one may that was sent no later than this after the
            fault began: it was on a connection of the process that died.
        may_end: the whole server may end of it. Then it is started again, as whatever runs it would do.
    """

    name: str
    victim: str
    hurt: Act
    mend: Act = nothing
    loses_seconds: float = 0.0
    may_end: bool = False


def _killed(name: str, victim: str) -> Fault:
    """The whole server dies and is started again."""
    return Fault(f"{name}: kill -9", victim, Victim.kill, Victim.start_again)


def _part_killed(name: str, victim: str, part: str, *, may_end: bool = False) -> Fault:
    """One process of a server dies; the server or the gateway brings it back."""
    return Fault(f"{name}: kill -9", victim, lambda hit: hit.send(signal.SIGKILL, part), may_end=may_end)


def _stopped(name: str, victim: str, part: str = "", *, may_end: bool = False) -> Fault:
    """A process stands still (SIGSTOP), and goes on (SIGCONT)."""

    async def go_on(hit: Victim) -> None:
        if not (may_end and hit.has_ended):
            await hit.send(signal.SIGCONT, part)

    return Fault(
        f"{name}: SIGSTOP", victim, lambda hit: hit.send(signal.SIGSTOP, part), go_on, may_end=may_end
    )


WORKER, STUB = "model_service_worker", "triton_python_backend_stub"


def _asked(method: str, path: str, **body: object) -> Act:
    """A request to the gateway's admin port."""

    async def act(gateway: Victim) -> None:
        url, data = f"http://{gateway.admin}/{path}", json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(url, data or None, headers, method=method)
        with await asyncio.to_thread(urllib.request.urlopen, request, timeout=150) as reply:
            reply.read()

    return act


def _to_a_process(number: signal.Signals) -> Act:
    """A signal to one of the gateway's processes, whichever is the first child."""

    async def act(gateway: Victim) -> None:
        psutil.Process(gateway.running.pid).children()[0].send_signal(number)

    return act


HANG_SECONDS = 2.0
"""After which the supervisor has killed a process that a signal has stopped: it takes one, and more on a busy
machine."""

GATEWAY_FAULTS = (
    Fault("gateway process: kill -9", "gateway", _to_a_process(signal.SIGKILL), loses_seconds=0.1),
    Fault(
        "gateway process: SIGSTOP",
        "gateway",
        _to_a_process(signal.SIGSTOP),
        loses_seconds=HANG_SECONDS,
    ),
    Fault("reload", "gateway", _asked("POST", "reload")),
    Fault(
        "canary at 0.5, then taken back",
        "gateway",
        _asked("PUT", "models/cnn_mnist/canary", weight=0.5),
        _asked("PUT", "models/cnn_mnist/canary", weight=0.0),
    ),
)
"""What happens to the gateway itself."""


async def _lose_packets(_: Victim) -> None:
    await asyncio.to_thread(lossy.lose, LOST_RATIO)


async def _lose_none(_: Victim) -> None:
    await asyncio.to_thread(lossy.lose_nothing)


PACKET_LOSS = Fault(f"link to a Triton: {LOST_RATIO:.0%} of packets lost", "far", _lose_packets, _lose_none)
"""The victim is an engine in a namespace of its own (tests/chaos/lossy.py)."""

FAULTS = (
    _part_killed("TorchServe's worker", "torchserve", WORKER),
    _stopped("TorchServe's worker", "torchserve", WORKER),
    _killed("TorchServe", "torchserve"),
    _stopped("TorchServe's JVM", "torchserve"),
    # Triton 2.51 aborts (lock_exception) when its stub holds their lock at that moment, whoever asks it.
    _part_killed("Triton's stub", "triton", STUB, may_end=True),
    _stopped("Triton's stub", "triton", STUB, may_end=True),
    _killed("Triton", "triton"),
    _stopped("Triton", "triton"),
    Fault("Triton: 50x slower", "triton", lambda hit: hit.slow(50), Victim.at_full_speed),
    _killed("TF Serving (stand-in)", "tfserving"),
    _stopped("TF Serving (stand-in)", "tfserving"),
    _killed("Redis", "redis"),
    _stopped("Redis", "redis"),
)
"""Each hurts one part that the others can do without."""
