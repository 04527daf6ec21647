"""What a request costs the gateway: CPU microseconds, by protocol and by where the answer comes from.

`make bench` starts a real Triton, a real Redis and gateways on free ports, sends the same requests over every
path, and reads each server process's own CPU time (user and system, all threads) from /proc before and after.
The client is another process and does not count; neither do Triton and Redis. In turn with each round the
same requests go to the bare servers of `bare_server.py`, which show what the libraries below us cost.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
from numpy.typing import NDArray

from loadtests import bare_server as bare
from loadtests.conditions import conditions
from services.launch import Running, free_port
from services.protocol import open_inference_pb2 as oip
from tests.load import binary_request, distinct_images, read_reply
from tests.serving import MODEL, ROOT, running_gateway, running_redis, running_triton

CONNECTIONS = 8
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: made by `make bench` -->", "<!-- end of figures -->"

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


async def send_http(address: str, requests: Sequence[bytes], connections: int = CONNECTIONS) -> None:
    """Whole HTTP requests over so many connections; each must be answered with 200."""
    todo = iter(requests)

    async def work() -> None:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        for request in todo:
            writer.write(request)
            status, _, body = await read_reply(reader)
            if status != 200:  # noqa: PLR2004
                raise RuntimeError(f"{address} answered {status}: {body[:200]!r}")
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))


async def send_grpc(address: str, requests: Sequence[bytes]) -> None:
    """Serialised messages over one channel, `CONNECTIONS` in flight; each must be answered OK."""
    todo = iter(requests)
    async with grpc.aio.insecure_channel(address) as channel:
        infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(bare.INFER)

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
class Server:
    """A process that is measured: its id, and host:port of its two listeners."""

    pid: int
    http: str
    grpc: str

    def address(self, protocol: str) -> str:
        """Where it takes this protocol."""
        return self.grpc if protocol == "gRPC" else self.http


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one path: CPU microseconds a request in each round, and the bare server's in the round beside it."""

    cpu_us: list[float]
    bare_us: list[float]

    def __str__(self) -> str:
        ratio = statistics.median(cpu / bare for cpu, bare in zip(self.cpu_us, self.bare_us, strict=True))
        median, low, high = statistics.median(self.cpu_us), min(self.cpu_us), max(self.cpu_us)
        return f"{median:.0f} ({low:.0f}-{high:.0f}), {ratio:.1f}x"


class Bench:
    """Sends and measures.

    Args:
        bare: the reference.
        requests: how many a round.
        rounds: how many rounds a figure.
    """

    def __init__(self, bare: Server, requests: int, rounds: int) -> None:
        self._bare = bare
        self._requests = requests
        self._rounds = rounds
        self._seed = 0

    def figure(self, name: str, server: Server, protocol: str, *, distinct: bool) -> Figure:
        """The figure of one path; a first round of each, not counted, warms it (and fills its cache).

        The bare server is measured in turn with the gateway, since the machine's speed drifts.
        """
        encode = PROTOCOLS[protocol][0]
        requests = [encode(image) for image in self._images()]
        for warmed in (self._bare, server):
            self._round(warmed, protocol, requests)
        figure = Figure([], [])
        for _ in range(self._rounds):
            if distinct:
                requests = [encode(image) for image in self._images()]
            figure.bare_us.append(self._round(self._bare, protocol, requests))
            figure.cpu_us.append(self._round(server, protocol, requests))
            cpu_us, bare_us = figure.cpu_us[-1], figure.bare_us[-1]
            sys.stderr.write(f"{name}, {protocol}: {cpu_us:.0f} us CPU a request, bare {bare_us:.0f}\n")
        return figure

    def _images(self) -> NDArray[np.float32]:
        """One round's images, never seen before."""
        self._seed += 1
        return distinct_images(self._requests, self._seed)

    def _round(self, server: Server, protocol: str, requests: Sequence[bytes]) -> float:
        """CPU microseconds that the server spent on each of these."""
        before = cpu_seconds(server.pid)
        asyncio.run(PROTOCOLS[protocol][1](server.address(protocol), requests))
        return (cpu_seconds(server.pid) - before) / len(requests) * 1e6


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads, ended ones included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def measure_all(folder: Path, requests: int, rounds: int) -> dict[str, dict[str, Figure]]:
    """Every path: source of the answer, then protocol."""
    figures: dict[str, dict[str, Figure]] = {}
    http_port, grpc_port = free_port(), free_port()
    bare_server = bare.launch(folder=folder, root=ROOT, http_port=http_port, grpc_port=grpc_port)
    with (
        Running(bare_server) as running,
        running_triton(folder / "triton") as triton,
        running_redis(folder / "redis") as (_, redis_port),
    ):
        reference = Server(running.pid, f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}")
        bench = Bench(reference, requests, rounds)
        redis = {"redis": {"url": f"redis://127.0.0.1:{redis_port}/0"}, "memory_bytes": 0}
        paths = {"memory hit": ({}, False), "Redis hit": (redis, False), "miss": ({}, True)}
        for name, (cache, distinct) in paths.items():
            settings = {"endpoints": {"triton": triton.endpoint}, "cache": cache}
            with running_gateway(folder / name.replace(" ", "-"), settings) as gateway:
                server = Server(gateway.running.pid, gateway.http, gateway.grpc)
                figures[name] = {
                    protocol: bench.figure(name, server, protocol, distinct=distinct)
                    for protocol in PROTOCOLS
                }
    return figures


def table(figures: dict[str, dict[str, Figure]]) -> str:
    """The figures in Markdown, each with its ratio to the bare server of the same protocol."""
    lines = ["| answer from | " + " | ".join(PROTOCOLS) + " |", "|---" * (len(PROTOCOLS) + 1) + "|"]
    bare_us = {
        protocol: statistics.median(us for row in figures.values() for us in row[protocol].bare_us)
        for protocol in PROTOCOLS
    }
    lines.append("| bare server | " + " | ".join(f"{us:.0f}" for us in bare_us.values()) + " |")
    for name, row in figures.items():
        lines.append(f"| {name} | " + " | ".join(str(figure) for figure in row.values()) + " |")
    return "\n".join(lines)


def run_conditions(requests: int, rounds: int) -> str:
    """Date, machine and versions of a run."""
    where = conditions(("grpcio", "uvicorn", "orjson", "redis"))
    return f"{where}; {rounds} rounds of {requests} requests, {CONNECTIONS} in flight."


def main() -> int:
    """Measure, print, and write the figures into docs/performance.md."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.cost", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure; default: %(default)s")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure_all(Path(folder), arguments.requests, arguments.rounds)
    text = f"{run_conditions(arguments.requests, arguments.rounds)}\n\n{table(figures)}\n"
    sys.stdout.write(text)
    if not arguments.no_write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
