"""`python -m gateway --config inferway.yaml`."""

import argparse
import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
import uvloop

from gateway.app import Gateway, build
from gateway.configuration import ConfigurationError
from gateway.freed_memory import keep_freed_memory
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
        if arguments.worker is not None:
            _work(arguments.config, arguments.worker, early)
            return 0
        settings = load_settings(arguments.config)
        configure(settings.log, traced=bool(settings.tracing.otlp_endpoint))
        if settings.server.processes > 1 and not arguments.check:
            return 0 if uvloop.run(supervise(settings.server)) else 2
        gateway = build(settings, arguments.config.parent)
        if arguments.check:
            asyncio.run(gateway.serving.check_files())
            sys.stdout.write(f"{arguments.config}: ok\n")
        else:
            reloads = _prepared(gateway, arguments.config, early)
            uvloop.run(serve(gateway, settings.server, reloads))
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _work(config: Path, seat: Seat, early: list[int]) -> None:
    """Be one process of several, with the last configuration that was served where the files are of no use.

    Raises:
        ConfigurationError: the files are of no use, and nothing that was served is of any.
    """
    structlog.contextvars.bind_contextvars(process=seat.process)
    texts = seat.last_texts()
    try:
        gateway = _built(config, {})
    except ConfigurationError as error:
        if not texts:
            raise
        gateway = _built(config, texts)
        structlog.get_logger().error("last_configuration_taken", problems=str(error).splitlines())
        early.append(signal.SIGHUP)  # it is to refuse the files, or to take them, as the others do
    reloads = _prepared(gateway, config, early)
    uvloop.run(work(gateway, gateway.front.settings.server, reloads, seat))


def _built(config: Path, texts: Mapping[str, str]) -> Gateway:
    settings = load_settings(config, texts=texts)
    configure(settings.log, traced=bool(settings.tracing.otlp_endpoint))
    return build(settings, config.parent)


def _prepared(gateway: Gateway, config: Path, early: list[int]) -> Reloads:
    """What a process needs that is about to serve; who has been asked to reload already is asked again."""
    _tame_garbage_collection()
    keep_freed_memory()
    _raise_file_limit()
    reloads = Reloads(gateway, config)
    signal.signal(signal.SIGHUP, lambda *_: reloads.ask())  # until the event loop takes it over
    if early:
        reloads.ask()
    return reloads


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
