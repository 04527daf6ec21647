"""The whole stack on this machine, without Docker: `python -m services.local up|down|status [--stack full]`.

`up` starts what does not run yet and returns when the gateway answers; `down` ends all of it, also what a
crash left behind. What cannot start is skipped, with the reason, as long as there is an engine to answer.
"""

import argparse
import fcntl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gateway.configuration import ConfigurationError
from services.launch import LaunchError
from services.local_gateway import problems
from services.local_processes import NotStopped, is_alive, members, stop
from services.local_record import Part, Record, forget, load
from services.local_stacks import CONFIGURATIONS, ROOT, describe
from services.local_up import GATEWAY, Bringing, StackError, say

RUN = ROOT / "run"
INTERRUPTED = 130
"""A shell's exit code after Ctrl-C."""


def up(name: str, run: Path) -> None:
    """Start the stack of that name, or what of it does not run; print where it is and a first request.

    Raises:
        ConfigurationError: the gateway's configuration cannot be used.
        LaunchError: another program has a port of the gateway.
        StackError: it cannot come up; nothing of it is left then.
    """
    stack = describe(name, run)
    record = load(run)
    if record.stack not in {"", name} and any(_runs(part) for part in record.parts):
        raise StackError(f"the {record.stack} stack is up: `make down` first")
    bringing = Bringing(replace(record, stack=name), run)
    wanted = (*stack.companions, *stack.engines, GATEWAY)
    if all(bringing.is_up(part) for part in wanted):
        say(f"the {name} stack is up already")
    else:
        try:
            bringing.bring(stack)
        except BaseException:
            _stop_all(bringing.record, run)
            raise
    _print(bringing.record)
    for problem in problems(stack.gateway):
        say(f"cannot be served: {problem}")
    say(f"\nAsk it for an answer:\n  {stack.first_request}")


def down(run: Path) -> None:
    """End everything that `up` started, the gateway first.

    Raises:
        NotStopped: something could not be ended.
    """
    record = load(run)
    running = [part.name for part in record.parts if _runs(part)]
    _stop_all(record, run)
    say(f"stopped {', '.join(reversed(running))}" if running else "nothing was running")


def status(run: Path) -> None:
    """Print what runs, what does not, and why."""
    record = load(run)
    if record.parts:
        _print(record)
    else:
        say("nothing was started: `make up` does it")


def table(record: Record) -> str:
    """One line a part: name, state, process id, and its addresses or what is wrong."""
    rows = [("NAME", "STATE", "PID", "ADDRESSES"), *(_row(part) for part in record.parts)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ("  ".join((*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3])) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(part: Part) -> tuple[str, str, str, str]:
    if part.server is None:
        return part.name, "skipped", "-", part.skipped
    if not is_alive(part.server):
        return part.name, "stopped", "-", f"it ended by itself; its log: {part.log}"
    addresses = ", ".join(f"{kind} {address}" for kind, address in part.addresses.items())
    return part.name, "running", str(part.server.pid), addresses


def _print(record: Record) -> None:
    say(table(record))


def _runs(part: Part) -> bool:
    return part.server is not None and bool(members(part.server))


def _stop_all(record: Record, run: Path) -> None:
    """End every part; the record is kept while one of them is still there."""
    left = []
    for part in reversed(record.parts):
        if part.server is not None:
            try:
                stop(part.server)
            except NotStopped as error:
                left.append(f"{part.name}: {error}")
    if left:
        raise NotStopped("; ".join(left))
    forget(run)


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """One `up` or `down` at a time."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 and one line on standard error when that fails."""
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--stack", choices=list(CONFIGURATIONS), default="embedded", help="what `up` starts")
    parser.add_argument("--run", type=Path, default=RUN, help="record, logs and data; default: %(default)s")
    options = parser.parse_args(argv)
    run: Path = options.run
    try:
        if options.action == "status":
            status(run)
            return 0
        with _alone(run):
            if options.action == "up":
                up(options.stack, run)
            else:
                down(run)
    except (StackError, LaunchError, NotStopped, ConfigurationError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
