"""Runs a gateway: the HTTP, gRPC and admin listeners in one process, until SIGTERM or SIGINT."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator, Mapping

import grpc
import structlog
import uvicorn
from fastapi import FastAPI

from gateway.app import Gateway
from gateway.configuration import ConfigurationError
from gateway.http_connection import HttpConnection
from gateway.protocols.grpc_reflection import enable_reflection
from gateway.settings import ServerSettings

_log = structlog.get_logger()

GRPC_OVERHEAD_BYTES = 64 * 1024
"""What a message holds beside its tensors: the limit is on what the client sends, not on our framing."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open: longer than pools of clients and load balancers keep
theirs (mostly 60), so that it is they who close, and no request meets a closed one."""


class _HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to `serve`, which stops three listeners and not one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(gateway: Gateway, settings: ServerSettings) -> None:
    """Listen until a signal comes, then answer what is in flight and return.

    Raises:
        ConfigurationError: a port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with (
        _bind(settings.host, settings.http_port, "http_port") as http,
        _bind(settings.admin_host, settings.admin_port, "admin_port") as admin,
    ):
        async with gateway:
            await _listen(gateway, settings, {http: gateway.http, admin: gateway.admin}, stop)
    _log.info("gateway_stopped")


async def _listen(
    gateway: Gateway, settings: ServerSettings, apps: Mapping[socket.socket, FastAPI], stop: asyncio.Event
) -> None:
    """Answer on every port until `stop`, or until a listener fails: better no gateway than half of one."""
    grpc_server, grpc_port = await _grpc_server(gateway, settings)
    servers = {bound: _http_server(app, settings) for bound, app in apps.items()}
    serving = [asyncio.create_task(server.serve(sockets=[bound])) for bound, server in servers.items()]
    http, admin = map(_address, apps)
    _log.info("gateway_started", http=http, grpc=f"{settings.host}:{grpc_port}", admin=admin)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((stopped, *serving), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    _log.info("gateway_stopping", drain_seconds=settings.drain_seconds)
    for server in servers.values():
        server.should_exit = True
    await asyncio.gather(grpc_server.stop(settings.drain_seconds), *serving, return_exceptions=True)
    for task in serving:
        task.result()


def _bind(host: str, port: int, setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _port_taken(host, port, setting, error.strerror or str(error)) from error
    return listener


def _port_taken(host: str, port: int, setting: str, why: str) -> ConfigurationError:
    mend = f"free it, or set INFERWAY_SERVER__{setting.upper()}"
    return ConfigurationError(f"cannot listen on {host}:{port}: {why}; {mend}")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


def _http_server(app: FastAPI, settings: ServerSettings) -> _HttpServer:
    config = uvicorn.Config(
        app,
        http=HttpConnection,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    return _HttpServer(config)


async def _grpc_server(gateway: Gateway, settings: ServerSettings) -> tuple[grpc.aio.Server, int]:
    limit = settings.max_request_bytes + GRPC_OVERHEAD_BYTES
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers(gateway.grpc_handlers())
    enable_reflection(server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise _port_taken(host, settings.grpc_port, "grpc_port", "address in use") from error
    await server.start()
    return server, port
