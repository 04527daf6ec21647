"""`python -m gateway --config inferway.yaml`."""

import argparse
import asyncio
import gc
import resource
import signal
import sys
from pathlib import Path

import structlog
import uvloop

from gateway.app import build
from gateway.configuration import ConfigurationError
from gateway.loading import load_settings
from gateway.logs import configure
from gateway.reload import Reloads
from gateway.server import serve
from gateway.supervisor.supervisor import supervise
from gateway.supervisor.worker import Seat, work

FILES = 65_536
"""Open files that are asked for, where the system lets a process choose."""


def main() -> int:
    """Run the gateway until it is told to stop; 2 when its configuration cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The Inferway gateway.")
    parser.add_argument("--config", type=Path, default=Path("inferway.yaml"), help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="check the configuration and stop")
    # What the supervisor says to each process that it starts.
    parser.add_argument("--worker", type=Seat.read, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    early: list[int] = []  # before there is anybody to ask; by default this signal would end the program
    signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    try:
        settings = load_settings(arguments.config)
        configure(settings.log, traced=bool(settings.tracing.otlp_endpoint))
        if settings.server.processes > 1 and arguments.worker is None and not arguments.check:
            return 0 if uvloop.run(supervise(settings.server)) else 2
        gateway = build(settings, arguments.config.parent)
        if arguments.check:
            asyncio.run(gateway.serving.check_files())
            sys.stdout.write(f"{arguments.config}: ok\n")
        else:
            _tame_garbage_collection()
            _raise_file_limit()
            reloads = Reloads(gateway, arguments.config)
            signal.signal(signal.SIGHUP, lambda *_: reloads.ask())  # until the event loop takes it over
            if early:
                reloads.ask()
            seat = arguments.worker
            if seat is not None:
                structlog.contextvars.bind_contextvars(process=seat.process)
                uvloop.run(work(gateway, settings.server, reloads, seat))
            else:
                uvloop.run(serve(gateway, settings.server, reloads))
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _tame_garbage_collection() -> None:
    """Look for cycles less often: few requests make any, and one JSON image is thousands of young lists.

    Parsing one nested 28x28x1 body took 85 us with Python's own thresholds, 65 us with these, and no less
    with higher ones. But who looks at 50,000 young objects at once keeps every request waiting for 50 ms.
    """
    gc.freeze()
    gc.set_threshold(5_000, 20, 50)


def _raise_file_limit() -> None:
    """Take as many files as this process may have: each connection is one, and a shell gives only 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    sys.exit(main())
