"""What a request costs the gateway: CPU microseconds, by protocol and by where the answer comes from.

`make bench` starts a real Triton, a real Redis and gateways on free ports, sends the same requests over every
path, and reads each server process's own CPU time (user and system, all threads) from /proc before and after.
The client is another process and does not count; neither do Triton and Redis. In the same run two references
show what the pieces below the gateway cost: a bare ASGI app under uvicorn and a bare grpc.aio service, which
answer as many bytes and do nothing else.
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
from numpy.typing import NDArray

from services.launch import Launch, Running, free_port
from services.protocol import open_inference_pb2 as oip
from tests.load import binary_request, distinct_images, read_reply
from tests.serving import MODEL, ROOT, running_gateway, running_redis, running_triton

CONNECTIONS = 8
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: made by `make bench` -->", "<!-- end of figures -->"
INFER = "/inference.GRPCInferenceService/ModelInfer"

Send = Callable[[str, Sequence[bytes]], Coroutine[Any, Any, None]]
Encode = Callable[[NDArray[np.float32]], bytes]


def json_request(image: NDArray[np.float32]) -> bytes:
    """One image as a whole HTTP request: JSON OIP REST."""
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": image.ravel().tolist()}
    body = orjson.dumps({"inputs": [tensor]})
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: gateway\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def grpc_request(image: NDArray[np.float32]) -> bytes:
    """One image as a serialised ModelInferRequest."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
    message = oip.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[image.tobytes()])
    return message.SerializeToString()


async def send_http(address: str, requests: Sequence[bytes]) -> None:
    """Whole HTTP requests over `CONNECTIONS` connections; each must be answered with 200."""
    todo = iter(requests)

    async def work() -> None:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        for request in todo:
            writer.write(request)
            status, _, body = await read_reply(reader)
            if status != 200:  # noqa: PLR2004
                raise RuntimeError(f"{address} answered {status}: {body[:200]!r}")
        writer.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


async def send_grpc(address: str, requests: Sequence[bytes]) -> None:
    """Serialised messages over one channel, `CONNECTIONS` in flight; each must be answered OK."""
    todo = iter(requests)
    async with grpc.aio.insecure_channel(address) as channel:
        infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)

        async def work() -> None:
            for request in todo:
                await infer(request)

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


PROTOCOLS: dict[str, tuple[Encode, Send]] = {
    "HTTP binary": (binary_request, send_http),
    "HTTP JSON": (json_request, send_http),
    "gRPC": (grpc_request, send_grpc),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """CPU microseconds a request: the median of the rounds, and their ends."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.0f} ({self.low:.0f}-{self.high:.0f})"


class Bench:
    """Sends and measures.

    Args:
        requests: how many a round.
        rounds: how many rounds a figure.
    """

    def __init__(self, requests: int, rounds: int) -> None:
        self._requests = requests
        self._rounds = rounds
        self._seed = 0

    def images(self) -> NDArray[np.float32]:
        """One round's images, never seen before."""
        self._seed += 1
        return distinct_images(self._requests, self._seed)

    def measure(self, name: str, pid: int, address: str, protocol: str, *, distinct: bool) -> Figure:
        """The figure of one path; a first round, not counted, warms it (and fills its cache)."""
        encode, send = PROTOCOLS[protocol]
        images = self.images()
        asyncio.run(send(address, [encode(image) for image in images]))
        figures = []
        for _ in range(self._rounds):
            requests = [encode(image) for image in (self.images() if distinct else images)]
            before, started = cpu_seconds(pid), time.monotonic()
            asyncio.run(send(address, requests))
            figures.append((cpu_seconds(pid) - before) / len(requests) * 1e6)
            rate = len(requests) / (time.monotonic() - started)
            sys.stderr.write(f"{name}, {protocol}: {figures[-1]:.0f} us CPU a request, {rate:.0f} req/s\n")
        return Figure(statistics.median(figures), min(figures), max(figures))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads, ended ones included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


async def reference_app(_scope: Any, receive: Any, send: Any) -> None:
    """The bare ASGI app: reads the body, answers as many bytes as a digit's answer has."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"150")]})
    await send({"type": "http.response.body", "body": bytes(150)})


async def serve_reference(http_port: int, grpc_port: int) -> None:
    """Both bare servers in one process, until it is killed."""
    import uvicorn  # noqa: PLC0415 - only the reference process needs it

    async def answer(_request: bytes, _context: object) -> bytes:
        return bytes(150)

    server = grpc.aio.server()
    service, _, method = INFER[1:].partition("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        method: grpc.unary_unary_rpc_method_handler(answer)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    config = uvicorn.Config(
        reference_app, port=http_port, lifespan="off", access_log=False, log_level="error"
    )
    await uvicorn.Server(config).serve()


def measure_all(bench: Bench, folder: Path) -> dict[str, dict[str, Figure]]:
    """Every path: source of the answer, then protocol."""
    figures: dict[str, dict[str, Figure]] = {}
    http_port, grpc_port = free_port(), free_port()
    reference = Launch(
        name="reference",
        argv=[sys.executable, "-m", "loadtests.cost", "--reference", str(http_port), str(grpc_port)],
        is_ready=lambda: _listens(http_port),
        log=folder / "reference.log",
        cwd=ROOT,
    )
    with Running(reference) as bare:
        figures["bare server"] = {
            protocol: bench.measure(
                "bare server",
                bare.pid,
                f"127.0.0.1:{grpc_port if protocol == 'gRPC' else http_port}",
                protocol,
                distinct=False,
            )
            for protocol in PROTOCOLS
        }
    with running_triton(folder / "triton") as triton, running_redis(folder / "redis") as (_, redis_port):
        redis = {"redis": {"url": f"redis://127.0.0.1:{redis_port}/0"}}
        paths = {
            "memory hit": ({}, False),
            "Redis hit": ({**redis, "memory_bytes": 0}, False),
            "miss": ({}, True),
        }
        for name, (cache, distinct) in paths.items():
            settings = {"endpoints": {"triton": triton.endpoint}, "cache": cache}
            with running_gateway(folder / name.replace(" ", "-"), settings) as gateway:
                figures[name] = {
                    protocol: bench.measure(
                        name,
                        gateway.running.pid,
                        gateway.grpc if protocol == "gRPC" else gateway.http,
                        protocol,
                        distinct=distinct,
                    )
                    for protocol in PROTOCOLS
                }
    return figures


def _listens(port: int) -> bool:
    async def connect() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    try:
        asyncio.run(connect())
    except OSError:
        return False
    return True


def table(figures: dict[str, dict[str, Figure]]) -> str:
    """The figures in Markdown, with the ratio to the bare server of the same protocol."""
    lines = ["| answer from | " + " | ".join(PROTOCOLS) + " |", "|---" * (len(PROTOCOLS) + 1) + "|"]
    for name, row in figures.items():
        cells = []
        for protocol, figure in row.items():
            ratio = figure.median / figures["bare server"][protocol].median
            cells.append(f"{figure}, {ratio:.1f}x")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conditions(requests: int, rounds: int) -> str:
    """Date, machine and versions of a run."""
    model = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "uvicorn", "orjson", "redis"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout.strip()
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model}), Python {platform.python_version()}, "
        f"{packages}; code {commit or 'unknown'}; {rounds} rounds of {requests} requests, "
        f"{CONNECTIONS} in flight."
    )


def main() -> int:
    """Measure, print, and write the figures into docs/performance.md."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.cost", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure; default: %(default)s")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--reference", nargs=2, type=int, metavar=("HTTP", "GRPC"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reference:
        asyncio.run(serve_reference(*arguments.reference))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        figures = measure_all(Bench(arguments.requests, arguments.rounds), Path(folder))
    text = f"{conditions(arguments.requests, arguments.rounds)}\n\n{table(figures)}\n"
    sys.stdout.write(text)
    if not arguments.no_write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
