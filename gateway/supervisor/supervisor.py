"""Runs several gateway processes on the same ports: `server.processes` in `inferway.yaml`.

Only HTTP and gRPC are served by them. The sockets are bound here and inherited: whoever is free accepts, so
that a process that hangs or dies takes no connection with it that it has not accepted (uvicorn's and
gunicorn's workers do the same; `gateway/listener.py` sees to it that each gets its share).

This process serves the admin port, and no request of a client ever passes through it. When it is killed they
end, too (`gateway/supervisor/worker.py`).
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from gateway.admin.app import admin_app
from gateway.admin.operations import NotDone, Operations
from gateway.configuration import ConfigurationError
from gateway.http_server import ADMIN_FILES_DIVISOR, HttpServer
from gateway.server import address, bind, listen_on, told_to_stop
from gateway.settings import ServerSettings
from gateway.supervisor.fleet import Fleet, Unusable
from gateway.supervisor.worker import GRACE_SECONDS

_log = structlog.get_logger()


async def supervise(settings: ServerSettings) -> bool:
    """Keep the processes running until a signal comes, then let them answer what is in flight.

    Returns:
        Whether the configuration could be used; if not, a process has said why.

    Raises:
        ConfigurationError: a port is taken.
    """
    stop = told_to_stop()
    with (
        bind(settings.host, settings.http_port, "http_port") as http,
        bind(settings.host, settings.grpc_port, "grpc_port") as grpc,
        claim_admin(settings) as admin,
    ):
        fleet = Fleet(settings.processes, http, grpc)
        operations = Operations(fleet)
        server = HttpServer(
            admin_app(operations, settings.admin_writes), settings, None, files_divisor=ADMIN_FILES_DIVISOR
        )
        serving = asyncio.create_task(server.serve(sockets=[admin]))
        running = asyncio.create_task(fleet.run())
        _on_hang_up(lambda: _reload(operations))
        _log.info(
            "supervisor_started",
            processes=settings.processes,
            http=address(http),
            grpc=address(grpc),
            admin=address(admin),
        )
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((stopped, serving, running), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        http.close()  # theirs stay open until each has drained; ours would take connections for nobody
        grpc.close()
        await fleet.stop(settings.drain_delay_seconds + settings.drain_seconds + GRACE_SECONDS)
        usable = await _ended(running)
        server.should_exit = True
        await serving
    _log.info("supervisor_stopped")
    return usable


def claim_admin(settings: ServerSettings) -> socket.socket:
    """The supervisor's own port; it listens at once, so that a second gateway fails at its start.

    Raises:
        ConfigurationError: the port is taken.
    """
    admin = bind(settings.admin_host, settings.admin_port, "admin_port")
    try:
        listen_on(admin, "admin_port")
    except ConfigurationError:
        admin.close()
        raise
    return admin


async def _ended(running: asyncio.Task[None]) -> bool:
    """Wait for all processes to have ended; false if it was for their configuration."""
    try:
        await running
    except* Unusable:
        usable = False
    else:
        usable = True
    return usable


def _on_hang_up(act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Act at each SIGHUP."""
    acting: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = asyncio.create_task(act())
        acting.add(task)
        task.add_done_callback(acting.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)


async def _reload(operations: Operations) -> None:
    try:
        processes = await operations.reload()
    except NotDone as error:
        _log.error("reload_failed", error=str(error))
    else:
        _log.info("reloaded", processes=processes)
