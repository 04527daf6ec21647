"""Runs a gateway: its listeners in one process, until SIGTERM or SIGINT."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

import structlog
import uvicorn
from starlette.types import ASGIApp

from gateway.app import Gateway
from gateway.configuration import ConfigurationError
from gateway.grpc_server import GrpcServer, limits
from gateway.http_connection import HttpConnection
from gateway.reload import Reloads
from gateway.settings import ServerSettings

_log = structlog.get_logger()

UNTAKEN_SECONDS = 30
"""How long a caller may take nothing of its reply."""
LISTEN_POLL_SECONDS = 0.01
"""How often uvicorn is asked whether it listens; it tells nobody."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open: longer than pools of clients and load balancers keep
theirs (mostly 60), so that it is they who close, and no request meets a closed one."""


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to `serve`, which stops three listeners and not one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


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
        bind(settings.admin_host, settings.admin_port, "admin_port") as admin,
    ):
        async with gateway, reloading(gateway, reloads, stop):
            await listen(gateway, settings, {http: gateway.http, admin: gateway.admin}, stop)
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


def http_server(app: ASGIApp, settings: ServerSettings, tls: ssl.SSLContext | None) -> HttpServer:
    """What serves an app over HTTP/1.1; its `serve` takes the sockets."""
    return HttpServer(http_config(app, settings, tls))


def http_config(app: ASGIApp, settings: ServerSettings, tls: ssl.SSLContext | None) -> uvicorn.Config:
    """How an app is served over HTTP/1.1."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=HttpConnection,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )


NewServer = Callable[[ASGIApp, ServerSettings, ssl.SSLContext | None], HttpServer]
"""Makes what serves an app, in the clear or over TLS."""


async def listen(
    gateway: Gateway,
    settings: ServerSettings,
    apps: Mapping[socket.socket, ASGIApp],
    stop: asyncio.Event,
    *,
    new_server: NewServer = http_server,
    shares_grpc: bool = False,
    began: asyncio.Event | None = None,
) -> None:
    """Answer on every port until `stop`, or until a listener fails: better no gateway than half of one.

    Args:
        gateway: has started.
        settings: the gRPC port, and how long the end may take.
        apps: by the socket that is bound for each.
        stop: set when it is to end.
        new_server: makes what serves an app.
        shares_grpc: whether other processes listen on the gRPC port, too.
        began: set once every port is listened on.

    Raises:
        ConfigurationError: the gRPC port is taken.
    """
    tls = gateway.tls
    grpc_server = GrpcServer(gateway.grpc.begin, limits(settings), tls.grpc if tls else None)
    grpc_socket = bind(settings.host, settings.grpc_port, "grpc_port", is_shared=shares_grpc)
    grpc_address = address(grpc_socket)
    await grpc_server.start(grpc_socket)
    public = tls.http if tls else None
    servers = {
        bound: new_server(app, settings, public if app is gateway.http else None)
        for bound, app in apps.items()
    }
    serving = [asyncio.create_task(server.serve(sockets=[bound])) for bound, server in servers.items()]
    names = {"http" if app is gateway.http else "admin": address(bound) for bound, app in apps.items()}
    _log.info("gateway_started", grpc=grpc_address, **names)
    if began is not None:
        await _until_all_listen(servers.values(), serving)
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


def bind(host: str, port: int, setting: str, *, is_shared: bool = False) -> socket.socket:
    """A socket that is bound and does not listen yet.

    Args:
        host: whose addresses to listen on.
        port: its number.
        setting: which moves it.
        is_shared: other processes of this gateway have sockets on the same port.

    Raises:
        ConfigurationError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(is_shared))
    # Connections inherit it: one whose caller takes nothing of its reply is closed by the kernel. Neither
    # asyncio nor uvicorn ever give up on it, nor on the memory that the reply is in.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNTAKEN_SECONDS)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise port_taken(host, port, setting, error.strerror or str(error)) from error
    return listener


def port_taken(host: str, port: int, setting: str, why: str) -> ConfigurationError:
    """What to say of a port that cannot be had, with the setting that moves it."""
    mend = f"free it, or set INFERWAY_SERVER__{setting.upper()}"
    return ConfigurationError(f"cannot listen on {host}:{port}: {why}; {mend}")


async def _until_all_listen(servers: Collection[HttpServer], serving: Sequence[asyncio.Task[None]]) -> None:
    def is_over() -> bool:
        return all(server.started for server in servers) or any(task.done() for task in serving)

    while not is_over():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(LISTEN_POLL_SECONDS)


def address(listener: socket.socket) -> str:
    """Host and port of a socket that is bound."""
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"
