"""The reference of `loadtests.bench.cost`: what the libraries below the gateway cost when nothing is done.

A bare ASGI app under uvicorn and a bare grpc.aio service in one process: both read a request and answer as
many bytes as a digit's answer has.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from services.launch import Launch

ANSWER = bytes(150)
INFER = "/inference.GRPCInferenceService/ModelInfer"


def launch(*, folder: Path, root: Path, http_port: int, grpc_port: int) -> Launch:
    """Say how to start it; its log goes to `folder`."""
    return Launch(
        name="bare server",
        argv=[sys.executable, "-m", "loadtests.bare_server", str(http_port), str(grpc_port)],
        is_ready=lambda: _listens(http_port),
        log=folder / "bare_server.log",
        cwd=root,
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def app(_scope: Any, receive: Any, send: Any) -> None:
    """The ASGI app."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


async def serve(http_port: int, grpc_port: int) -> None:
    """Both servers, until the process is told to stop."""

    async def answer(_request: bytes, _context: object) -> bytes:
        return ANSWER

    server = grpc.aio.server()
    service, _, method = INFER[1:].partition("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        method: grpc.unary_unary_rpc_method_handler(answer)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    config = uvicorn.Config(app, port=http_port, lifespan="off", access_log=False, log_level="error")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(serve(*(int(port) for port in sys.argv[1:3])))
