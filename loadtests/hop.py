"""What a call to a backend costs the process that makes it: `python -m loadtests.hop`.

A real Triton and a real TorchServe answer. This process calls them as the gateway's backends do, and, to show
what each client alone costs, with messages that are serialised already: by our own client (`gateway/http2`),
by a unary call of grpc.aio, by such calls over four channels in turn, and (`--stream`) over one
ModelStreamInfer, on which replies are matched by id: Triton 2.51 dies of it (SIGSEGV), 32 calls in flight.
The CPU time is user and system time of all threads of this process; the servers are others and do not count.
The ways take turns, since the machine's speed drifts. `--publish` writes the tables into docs/performance.md.
"""

import argparse
import asyncio
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import uvloop
import yaml

from gateway.backends import Backend
from gateway.backends.grpc_channel import GrpcChannel
from gateway.backends.open_inference import INFER, OpenInference
from gateway.backends.torchserve import PREDICTIONS, TorchServe
from gateway.backends.unbroken_calls import CALL_SECONDS
from gateway.contract import Contract
from gateway.freed_memory import keep_freed_memory
from gateway.inference import InferRequest, Tensor
from gateway.request_id import bind_request_id
from gateway.wire_format import field, joined, map_entry
from loadtests.conditions import conditions
from services.protocol.open_inference_pb2 import ModelInferRequest, ModelStreamInferResponse
from services.protocol.torchserve_pb2 import PredictionsRequest
from tests.serving import MODEL, ROOT, Engine, running_torchserve, running_triton

STREAM = INFER.replace("ModelInfer", "ModelStreamInfer")
CHANNELS = 4
BACKEND, UNARY = "backend", "grpc.aio alone"
LIMIT_BYTES = 64 * 1024 * 1024
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: made by `loadtests.hop --publish` -->", "<!-- end of figures -->"

Way = Callable[[], Awaitable[object]]
MakeWay = Callable[[InferRequest], Way]


@dataclass(frozen=True, slots=True)
class Case:
    """What is called.

    Attributes:
        model: its name.
        image_shape: of one image, FP32.
        items: images a call.
        in_flight: calls at once.
        share: of `--calls`; less where the engine takes long.
    """

    model: str
    image_shape: tuple[int, ...]
    items: int
    in_flight: int
    share: float = 1.0


DIGITS = [Case(MODEL, (28, 28, 1), items, in_flight) for items in (1, 16) for in_flight in (1, 8, 32)]
"""One image, and about what a batch of the gateway carries."""
LARGE = "mobilenet_v2"
PICTURES = [
    Case(LARGE, (224, 224, 3), items, in_flight, share)
    for items, in_flight, share in ((1, 1, 0.2), (1, 4, 0.2), (16, 1, 0.05))
]
"""Messages of 0.6 and of 9.6 MB."""


class Stream:
    """All calls on one ModelStreamInfer; it must be the only one with work when it is measured."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
        self._call = call()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._ids = itertools.count()
        self._tasks = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._read())]

    async def ask(self, message: bytes) -> None:
        """One call with a message that has no id."""
        name = f"{next(self._ids):x}"
        answer = self._waiting[name] = asyncio.get_running_loop().create_future()
        self._outbox.put_nowait(b"".join((message, *field(ModelInferRequest.ID_FIELD_NUMBER, name.encode()))))
        await answer

    async def aclose(self) -> None:
        """End it with nothing in flight, as Triton needs it."""
        self._tasks[0].cancel()
        await self._call.done_writing()
        await self._tasks[1]

    async def _write(self) -> None:
        while True:
            await self._call.write(await self._outbox.get())

    async def _read(self) -> None:
        try:
            while isinstance(message := await self._call.read(), bytes):
                reply = ModelStreamInferResponse.FromString(message)
                if reply.error_message:
                    raise RuntimeError(reply.error_message)
                self._waiting.pop(reply.infer_response.id).set_result(None)
        finally:
            for answer in self._waiting.values():
                answer.set_exception(ConnectionError("the stream has ended"))


def image_request(case: Case) -> InferRequest:
    """A call of random images, as it comes to a backend."""
    images = np.random.default_rng(1).random((case.items, *case.image_shape), np.float32)
    tensor = Tensor("image", "FP32", images.shape, images.tobytes())
    return InferRequest(case.model, (tensor,), deadline=math.inf, version="1", variant="fp32")


def triton_message(request: InferRequest) -> bytes:
    """The same, as a ModelInferRequest."""
    (image,) = request.inputs
    message = ModelInferRequest(model_name=request.model, model_version=request.version)
    message.inputs.add(name=image.name, datatype=image.datatype, shape=image.shape)
    return joined(message, [field(ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER, image.data)])


def torchserve_message(request: InferRequest) -> bytes:
    """The same, as the PredictionsRequest that our handler takes."""
    (image,) = request.inputs
    about = {"name": image.name, "datatype": image.datatype, "shape": image.shape}
    message = PredictionsRequest(model_name=request.model, model_version=request.version)
    header = orjson.dumps({"inputs": [about], "outputs": []})
    number = PredictionsRequest.INPUT_FIELD_NUMBER
    return joined(message, [map_entry(number, "header", header), map_entry(number, image.name, image.data)])


async def cpu_us(way: Way, calls: int, in_flight: int) -> float:
    """CPU microseconds a call."""
    todo = iter(range(calls))

    async def work() -> None:
        bind_request_id("")
        for _ in todo:
            await way()

    before = time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return (time.process_time() - before) / calls * 1e6


async def measure(
    ways: Mapping[str, MakeWay],
    title: str,
    cases: Sequence[Case],
    arguments: argparse.Namespace,
) -> str:
    """A table in Markdown: each case by each way, and what the backend takes of a bare call of grpc.aio."""
    rows = [f"| {title} | " + " | ".join(ways) + f" | {BACKEND} / {UNARY} |", "|---" * (len(ways) + 2) + "|"]
    for case in cases:
        made = {name: make(image_request(case)) for name, make in ways.items()}
        figures: dict[str, list[float]] = {name: [] for name in ways}
        calls = max(case.in_flight, round(arguments.calls * case.share))
        for number in range(arguments.rounds + 1):
            for name, way in made.items():
                figure = await cpu_us(way, calls, case.in_flight)
                if number:  # the first round warms up
                    figures[name].append(figure)
        cells = [f"{statistics.median(us):.0f} ({min(us):.0f}-{max(us):.0f})" for us in figures.values()]
        pairs = zip(figures[BACKEND], figures[UNARY], strict=True)
        cells.append(f"{statistics.median(ours / bare for ours, bare in pairs):.2f}")
        name = f"{case.model}, {case.items} a call, {case.in_flight} in flight"
        sys.stderr.write(f"{title}, {name}: {', '.join(cells)}\n")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


class Clients:
    """Of one engine: our own and grpc.aio's, for messages that are serialised already."""

    def __init__(self, address: str, path: str, serialised: Callable[[InferRequest], bytes]) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        self.channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
        self._own = GrpcChannel(address, max_request_bytes=LIMIT_BYTES)
        self._path, self._serialised = path, serialised

    def ways(self) -> dict[str, MakeWay]:
        """By name, what makes a way of asking from a request."""
        own = self._own.method(self._path)
        infer: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(self._path) for channel in self.channels
        ]
        turns = itertools.cycle(infer)

        def in_turn(message: bytes) -> Awaitable[bytes]:
            return next(turns)(message)

        return {
            "our client alone": self.of(lambda message: own(message, timeout=CALL_SECONDS)),
            UNARY: self.of(infer[0]),
            f"{UNARY}, {CHANNELS} channels": self.of(in_turn),
        }

    def of(self, send: Callable[[bytes], Awaitable[object]]) -> MakeWay:
        """What serialises a request once and sends it each time."""

        def make(request: InferRequest) -> Way:
            message = self._serialised(request)
            return lambda: send(message)

        return make

    async def aclose(self) -> None:
        """Close every connection."""
        await self._own.aclose()
        for channel in self.channels:
            await channel.close()


async def measure_engine(
    engine: Engine, contracts: Mapping[str, Contract], arguments: argparse.Namespace
) -> str:
    """The table of one engine."""
    address, is_triton = engine.endpoint["address"], engine.endpoint["backend"] == "triton"
    limits: dict[str, Any] = {"contracts": contracts, "max_request_bytes": LIMIT_BYTES}
    backend: Backend
    if is_triton:
        backend = OpenInference(address, **limits)
        clients = Clients(address, INFER, triton_message)
    else:
        backend = TorchServe(address, management_address=engine.endpoint["management_address"], **limits)
        clients = Clients(address, PREDICTIONS, torchserve_message)
    ways: dict[str, MakeWay] = {BACKEND: lambda request: lambda: backend(request), **clients.ways()}
    stream = Stream(clients.channels[0]) if is_triton and arguments.stream else None
    if stream:
        ways["one stream"] = clients.of(stream.ask)
    title, cases = ("Triton", [*DIGITS, *PICTURES]) if is_triton else ("TorchServe", DIGITS)
    table = await measure(ways, title, cases, arguments)
    if stream:
        await stream.aclose()
    await backend.aclose()
    await clients.aclose()
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write the page where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.hop", description=__doc__)
    parser.add_argument("--calls", type=int, default=200, help="a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure; default: %(default)s")
    parser.add_argument("--stream", action="store_true", help="with Triton's stream, too")
    parser.add_argument("--publish", action="store_true", help="into docs/performance.md, too")
    arguments = parser.parse_args(argv)
    keep_freed_memory()  # as the gateway does
    contracts = {model: contract_of(model) for model in (MODEL, LARGE)}
    tables = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines: list[AbstractContextManager[Engine]] = [
            running_triton(folder / "triton", [MODEL, LARGE]),
            running_torchserve(folder / "torchserve"),
        ]
        for running in engines:
            with running as engine:
                tables.append(uvloop.run(measure_engine(engine, contracts, arguments)))
    described = (
        f"{conditions(('grpcio', 'protobuf', 'uvloop'))}; CPU microseconds a call, median (least-most) of "
        f"{arguments.rounds} rounds of {arguments.calls} calls, fewer of {LARGE}; ratio: median of the pairs."
    )
    text = "\n\n".join([described, *tables])
    sys.stdout.write(f"{text}\n")
    if arguments.publish:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return 0


def contract_of(model: str) -> Contract:
    """What replies of the model are held against."""
    return Contract.model_validate(yaml.safe_load((ROOT / "models" / model / "model.yaml").read_text()))


if __name__ == "__main__":
    sys.exit(main())
