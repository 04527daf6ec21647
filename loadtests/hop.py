"""What a call to a backend costs the process that makes it: `python -m loadtests.hop`.

A real Triton and a real TorchServe answer digits. This process calls them as the gateway's backends do, and,
to show what the library alone costs, with messages that are serialised already: by a unary call of grpc.aio,
over four channels in turn, and (`--stream`) over one ModelStreamInfer, on which replies are matched by id:
Triton 2.51 dies of it (SIGSEGV) with 32 calls in flight. The CPU time is user and system time of all threads
of this process; the servers are others and do not count. The ways take turns, since the machine's speed
drifts. docs/performance.md says what came of it.
"""

import argparse
import asyncio
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import orjson
import uvloop
import yaml

from gateway.backends import Backend
from gateway.backends.open_inference import INFER, OpenInference
from gateway.backends.torchserve import PREDICTIONS, TorchServe
from gateway.contract import Contract
from gateway.inference import InferRequest, Tensor
from gateway.request_id import bind_request_id
from gateway.wire_format import field, joined, map_entry
from loadtests.conditions import conditions
from services.protocol.open_inference_pb2 import ModelInferRequest, ModelStreamInferResponse
from services.protocol.torchserve_pb2 import PredictionsRequest
from tests.load import distinct_images
from tests.serving import MODEL, ROOT, Engine, running_torchserve, running_triton

STREAM = INFER.replace("ModelInfer", "ModelStreamInfer")
CHANNELS = 4
IN_FLIGHT = (1, 8, 32)
ITEMS = (1, 16)
"""Images a call: one, and about what a batch of the gateway carries."""
LIMIT_BYTES = 64 * 1024 * 1024

Way = Callable[[], Awaitable[object]]


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


def image_request(items: int) -> InferRequest:
    """A call with so many images, as it comes to a backend."""
    images = distinct_images(items)
    tensor = Tensor("image", "FP32", images.shape, images.tobytes())
    return InferRequest(MODEL, (tensor,), deadline=math.inf, version="1", variant="fp32")


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
    ways: Mapping[str, Callable[[InferRequest], Way]], title: str, arguments: argparse.Namespace
) -> list[str]:
    """A row of Markdown for every number of items and of calls in flight."""
    rows = [f"| {title} | " + " | ".join(ways) + " |", "|---" * (len(ways) + 1) + "|"]
    for items, in_flight in itertools.product(ITEMS, IN_FLIGHT):
        made = {name: make(image_request(items)) for name, make in ways.items()}
        figures: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds + 1):
            for name, way in made.items():
                figure = await cpu_us(way, arguments.calls, in_flight)
                if number:  # the first round warms up
                    figures[name].append(figure)
        cells = (f"{statistics.median(us):.0f} ({min(us):.0f}-{max(us):.0f})" for us in figures.values())
        rows.append(f"| {items} a call, {in_flight} in flight | " + " | ".join(cells) + " |")
    return rows


async def measure_engine(
    engine: Engine, contracts: Mapping[str, Contract], arguments: argparse.Namespace
) -> str:
    """The table of one engine."""
    address, is_triton = engine.endpoint["address"], engine.endpoint["backend"] == "triton"
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]
    infer: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
        channel.unary_unary(INFER if is_triton else PREDICTIONS) for channel in channels
    ]
    turns = itertools.cycle(infer)
    serialised = triton_message if is_triton else torchserve_message

    def backend_way(request: InferRequest) -> Way:
        return lambda: backend(request)

    def unary_way(request: InferRequest) -> Way:
        message = serialised(request)
        return lambda: infer[0](message)

    def channels_way(request: InferRequest) -> Way:
        message = serialised(request)
        return lambda: next(turns)(message)

    def stream_way(request: InferRequest) -> Way:
        message, ask = serialised(request), stream.ask
        return lambda: ask(message)

    ways = {"backend": backend_way, "unary": unary_way, f"unary, {CHANNELS} channels": channels_way}
    limits: dict[str, Any] = {"contracts": contracts, "max_request_bytes": LIMIT_BYTES}
    backend: Backend
    if is_triton:
        backend = OpenInference(address, **limits)
        if arguments.stream:
            stream = Stream(channels[0])
            ways["one stream"] = stream_way
        rows = await measure(ways, "Triton", arguments)
        if arguments.stream:
            await stream.aclose()
    else:
        backend = TorchServe(address, management_address=engine.endpoint["management_address"], **limits)
        rows = await measure(ways, "TorchServe", arguments)
    await backend.aclose()
    for channel in channels:
        await channel.close()
    return "\n".join(rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.hop", description=main.__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure; default: %(default)s")
    parser.add_argument("--stream", action="store_true", help="with Triton's stream, too")
    arguments = parser.parse_args()
    text = (ROOT / "models" / MODEL / "model.yaml").read_text()
    contracts = {MODEL: Contract.model_validate(yaml.safe_load(text))}
    with tempfile.TemporaryDirectory() as folder:
        for running in (running_triton, running_torchserve):
            with running(Path(folder) / running.__name__) as engine:
                table = uvloop.run(measure_engine(engine, contracts, arguments))
                sys.stdout.write(f"{table}\n\n")
    sys.stdout.write(f"{conditions(('grpcio', 'protobuf', 'uvloop'))}; {arguments.rounds} rounds of ")
    sys.stdout.write(f"{arguments.calls} calls.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
