"""Engines that a test starts and stops in its own loop, and a gateway that finds them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import psutil
import yaml

from services.protocol import open_inference_pb2 as oip
from tests.serving import BUILT, MODEL, StartedGateway, running_gateway

SOON_SECONDS = 20.0
OFTEN = {"discovery_interval_seconds": 0.05, "ready_interval_seconds": 0.05}
POOLS = [{"model": MODEL, "variant": "fp32", "endpoints": ["found"]}]


class Engine:
    """Speaks Triton's protocol and answers right, a hundredth of a second after it was asked.

    Attributes:
        address: host:port.
        calls: inferences that it was asked for.
    """

    def __init__(self) -> None:
        self.address = ""
        self.calls = 0
        path = BUILT / "onnx" / MODEL / "1" / "model.onnx"
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    async def infer(self, asked: oip.ModelInferRequest, _: Any) -> oip.ModelInferResponse:
        self.calls += 1
        await asyncio.sleep(0.01)
        image = np.frombuffer(asked.raw_input_contents[0], np.float32).reshape(asked.inputs[0].shape)
        (answer,) = self._session.run(None, {"image": image})
        reply = oip.ModelInferResponse(model_name=asked.model_name, model_version=asked.model_version)
        reply.outputs.add(name="probabilities", datatype="FP32", shape=answer.shape)
        reply.raw_output_contents.append(answer.tobytes())
        return reply

    async def ready(self, _: oip.ModelReadyRequest, __: Any) -> oip.ModelReadyResponse:
        return oip.ModelReadyResponse(ready=True)

    @property
    def is_connected(self) -> bool:
        """Whether anybody has a connection to it."""
        port = int(self.address.rpartition(":")[2])
        connections = psutil.Process().net_connections("tcp")
        return any(
            one.laddr and one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED
            for one in connections
        )


@asynccontextmanager
async def an_engine(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Engine]:
    engine = Engine()

    def unary(method: Any, request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=request.FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )

    methods = {
        "ModelInfer": unary(engine.infer, oip.ModelInferRequest),
        "ModelReady": unary(engine.ready, oip.ModelReadyRequest),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)]
    )
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    engine.address = f"127.0.0.1:{port}"
    await server.start()
    yield engine
    await server.stop(None)


@asynccontextmanager
async def a_gateway(
    folder: Path, entry: dict[str, Any], still: Engine | None = None, **more: Any
) -> AsyncIterator[StartedGateway]:
    """One with an entry called `found`, and `still` for an engine that stays where it is.

    Started and stopped in a thread: engines run in this one.
    """
    found = {"found": {"backend": "triton", **entry}}
    others = {"still": {"backend": "triton", "address": still.address}} if still else {}
    settings = {
        "endpoints": {**found, **others},
        "pools": POOLS,
        "balancing": OFTEN,
        "batching": {"enabled": False},  # requests are counted at the endpoints
        **more,
    }
    running = running_gateway(folder, settings)
    gateway = await asyncio.to_thread(running.__enter__)
    try:
        yield gateway
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process is what changes
            await asyncio.sleep(0.02)


def write(path: Path, *engines: Engine) -> None:
    """As whoever writes such a file should: another file, renamed."""
    beside = path.with_suffix(".new")
    beside.write_text(yaml.safe_dump([engine.address for engine in engines]))
    os.replace(beside, path)  # noqa: PTH105 - one that replaces, on purpose
