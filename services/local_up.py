"""Brings the local stack up: starts what does not run yet, and keeps the record true at every moment."""

import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

from services.launch import Launch, LaunchError, Running
from services.local_processes import MARK, Server, facts, is_alive, members, stop
from services.local_record import Part, Record
from services.local_stacks import Make, Stack

GATEWAY = "gateway"
PORT_SETTINGS = {
    "http": "INFERWAY_SERVER__HTTP_PORT",
    "grpc": "INFERWAY_SERVER__GRPC_PORT",
    "admin": "INFERWAY_SERVER__ADMIN_PORT",
}
"""What moves a port of the gateway, by the name of the address."""


class StackError(RuntimeError):
    """The stack cannot come up; the text is one line, with the mend."""


class Bringing:
    """One `up` under way.

    Args:
        record: what was started before.
        run: the folder for the record.

    Attributes:
        record: with what this call started and skipped.
        started: what this call started; it outlives the program that holds this.
    """

    def __init__(self, record: Record, run: Path) -> None:
        self.record = record
        self._run = run
        self.started: dict[str, Running] = {}
        self._waiting: list[str] = []

    def bring(self, stack: Stack) -> None:
        """Start all that does not run and wait for it: what the gateway needs first, the gateway last.

        Raises:
            LaunchError: a port of the gateway is taken.
            StackError: no engine, or no gateway; the rest may run, and is the caller's to stop.
        """
        if not self.is_up(GATEWAY):  # fail before any engine is started for nothing
            check_ports(stack.gateway)
        for name, make in {**stack.companions, **stack.engines}.items():
            self._start(name, make)
        self._wait()
        if stack.engines and not any(self.is_up(name) for name in stack.engines):
            raise StackError("no engine could be started (the reasons stand above), so nothing could answer")
        self._start(GATEWAY, lambda: stack.gateway)
        self._wait()
        part = self.record.find(GATEWAY)
        if part is None or part.skipped:
            raise StackError(f"the gateway did not start: {part.skipped if part else 'it is not recorded'}")

    def is_up(self, name: str) -> bool:
        """Whether that part's process runs."""
        part = self.record.find(name)
        return part is not None and part.server is not None and is_alive(part.server)

    def _start(self, name: str, make: Make) -> None:
        if self.is_up(name):
            return
        self._stop_leftovers(name)
        try:
            launch = make()
            check_ports(launch)
            running = Running(replace(launch, env={**launch.env, MARK: str(self._run)}))
        except (LaunchError, OSError, ValueError) as error:
            self._skip(name, error)
            return
        started = facts(running.pid)
        server = Server(running.pid, started.started_ticks if started else 0, str(self._run))
        self._keep(Part(name, server, dict(launch.addresses), str(launch.log)))
        self.started[name] = running
        self._waiting.append(name)

    def _wait(self) -> None:
        """Until everything that was started is ready, or is skipped since it does not get there."""
        if self._waiting:
            say(f"starting {', '.join(self._waiting)} ...")
        began = time.monotonic()
        for name in self._waiting:
            try:
                self.started[name].wait_ready()
            except LaunchError as error:
                self._skip(name, error)
            else:
                say(f"  {name}: ready ({time.monotonic() - began:.1f} s)")
        self._waiting.clear()

    def _stop_leftovers(self, name: str) -> None:
        """Workers of a server that crashed hold its ports."""
        part = self.record.find(name)
        if part is not None and part.server is not None and members(part.server):
            stop(part.server)

    def _skip(self, name: str, error: Exception) -> None:
        reason = " ".join(str(error).split())
        self._keep(Part(name, skipped=reason))
        say(f"  {name}: skipped: {reason}")

    def _keep(self, part: Part) -> None:
        self.record = self.record.with_part(part)
        self.record.save(self._run)


def check_ports(launch: Launch) -> None:
    """See that nobody listens where this server is to.

    Raises:
        LaunchError: names the first address that is taken and, for the gateway, the setting that moves it.
    """
    for kind, address in launch.addresses.items():
        if _is_taken(address):
            mend = "stop it"
            if launch.name == GATEWAY:
                mend += f", or choose another port: {PORT_SETTINGS[kind]}=... make up"
            raise LaunchError(f"another program listens on {address}: {mend}")


def _is_taken(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError:
            return True
    return False


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
