"""Runs a gateway: its listeners in one process, until SIGTERM or SIGINT."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from gateway.app import Gateway
from gateway.configuration import ConfigurationError
from gateway.grpc_server import GrpcServer, limits
from gateway.http_server import ADMIN_FILES_DIVISOR, HttpServer
from gateway.listener import Share
from gateway.reload import Reloads
from gateway.settings import ServerSettings

_log = structlog.get_logger()

UNTAKEN_SECONDS = 30
"""How long a caller may take nothing of its reply."""
BACKLOG = 2048
"""So many connections wait at most to be taken."""


async def serve(gateway: Gateway, settings: ServerSettings, reloads: Reloads | None = None) -> None:
    """Listen until SIGTERM or SIGINT comes, then answer what is in flight and return.

    Args:
        gateway: what answers.
        settings: where to listen.
        reloads: is asked to reload at SIGHUP.

    Raises:
        ConfigurationError: a port is taken.
    """
    stop = told_to_stop()
    with (
        bind(settings.host, settings.http_port, "http_port") as http,
        bind(settings.host, settings.grpc_port, "grpc_port") as grpc,
        bind(settings.admin_host, settings.admin_port, "admin_port") as admin,
    ):
        async with gateway, reloading(gateway, reloads, stop):
            await listen(gateway, settings, Bound(http, grpc, admin), stop)
    _log.info("gateway_stopped")


def told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and by SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@contextlib.asynccontextmanager
async def reloading(gateway: Gateway, reloads: Reloads | None, stop: asyncio.Event) -> AsyncIterator[None]:
    """Take changed configurations until the gateway stops: what drains begins nothing new."""
    if reloads is None:
        yield
        return
    gateway.control.reload = reloads.must
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloads.ask)
    running = asyncio.create_task(reloads.run())
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: running.cancel())
    try:
        yield
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, running, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Bound:
    """The sockets that a process listens on.

    Attributes:
        http: of the HTTP port.
        grpc: of the gRPC port.
        admin: of the admin port; None where the supervisor has it.
        http_share: of the connections, where other processes have the same socket.
        grpc_share: likewise.
    """

    http: socket.socket
    grpc: socket.socket
    admin: socket.socket | None = None
    http_share: Share | None = None
    grpc_share: Share | None = None

    def listen(self) -> None:
        """Let connections come; they wait until they are taken.

        Raises:
            ConfigurationError: a port is taken.
        """
        ports = {"http_port": self.http, "grpc_port": self.grpc, "admin_port": self.admin}
        for setting, each in ports.items():
            if each is not None:
                listen_on(each, setting)


async def listen(
    gateway: Gateway,
    settings: ServerSettings,
    bound: Bound,
    stop: asyncio.Event,
    *,
    began: asyncio.Event | None = None,
) -> None:
    """Answer on every port until `stop`, or until a listener fails: better no gateway than half of one.

    Args:
        gateway: has started.
        settings: how long the end may take.
        bound: what to listen on.
        stop: set when it is to end.
        began: set once every port is listened on.

    Raises:
        ConfigurationError: a port is taken.
    """
    bound.listen()
    tls = gateway.tls
    names = {"http": address(bound.http), "grpc": address(bound.grpc)}
    grpc_server = GrpcServer(
        gateway.grpc.begin, limits(settings), tls.grpc if tls else None, share=bound.grpc_share
    )
    grpc_server.start(bound.grpc)
    public = HttpServer(gateway.http, settings, tls.http if tls else None, share=bound.http_share)
    servers = {bound.http: public}
    if bound.admin is not None:
        servers[bound.admin] = HttpServer(gateway.admin, settings, None, files_divisor=ADMIN_FILES_DIVISOR)
        names["admin"] = address(bound.admin)
    serving = [asyncio.create_task(server.serve(sockets=[taken])) for taken, server in servers.items()]
    _log.info("gateway_started", **names)
    if began is not None:
        began.set()
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((stopped, *serving), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    _log.info("gateway_stopping", drain_seconds=settings.drain_seconds)
    if stop.is_set():
        gateway.edge.leaving.set()
        await asyncio.sleep(settings.drain_delay_seconds)
    gateway.edge.closing.set()
    for server in servers.values():
        server.should_exit = True
    await asyncio.gather(grpc_server.stop(settings.drain_seconds), *serving, return_exceptions=True)
    for task in serving:
        task.result()


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A socket that is bound and does not listen yet.

    Args:
        host: whose addresses to listen on.
        port: its number.
        setting: which moves it.

    Raises:
        ConfigurationError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it: one whose caller takes nothing of its reply is closed by the kernel. Neither
    # asyncio nor uvicorn ever give up on it, nor on the memory that the reply is in.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNTAKEN_SECONDS)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _port_taken(_address(host, port), setting, error) from error
    return listener


def listen_on(listener: socket.socket, setting: str) -> None:
    """Let connections come to a socket that is bound.

    Args:
        listener: the socket.
        setting: which moves its port.

    Raises:
        ConfigurationError: two were bound at the same time, and the other one listens.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise _port_taken(address(listener), setting, error) from error


def _port_taken(where: str, setting: str, error: OSError) -> ConfigurationError:
    """What to say of a port that cannot be had, with the setting that moves it."""
    mend = f"free it, or set INFERWAY_SERVER__{setting.upper()}"
    return ConfigurationError(f"cannot listen on {where}: {error.strerror or error}; {mend}")


def address(listener: socket.socket) -> str:
    """Host and port of a socket that is bound."""
    return _address(*listener.getsockname()[:2])


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
