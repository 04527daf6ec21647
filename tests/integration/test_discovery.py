"""Endpoints that come and go behind a file under load, and behind a name, over TLS too: no request fails."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import psutil
import pytest
import yaml

from gateway.app import build
from gateway.loading import load_settings
from services.protocol import open_inference_pb2 as oip
from tests.certificates import Authority
from tests.load import distinct_images, drive
from tests.serving import BUILT, MODEL, ROOT, StartedGateway, running_gateway

SOON_SECONDS = 20.0
OFTEN = {"discovery_interval_seconds": 0.05, "ready_interval_seconds": 0.05}
POOLS = [{"model": MODEL, "variant": "fp32", "endpoints": ["found"]}]


class Engine:
    """Speaks Triton's protocol and answers right, a hundredth of a second after it was asked.

    Attributes:
        address: host:port.
        calls: inferences that it was asked for.
        in_flight: those under way.
    """

    def __init__(self) -> None:
        self.address = ""
        self.calls = self.in_flight = 0
        path = BUILT / "onnx" / MODEL / "1" / "model.onnx"
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    async def infer(self, asked: oip.ModelInferRequest, _: Any) -> oip.ModelInferResponse:
        self.calls += 1
        self.in_flight += 1
        await asyncio.sleep(0.01)
        image = np.frombuffer(asked.raw_input_contents[0], np.float32).reshape(asked.inputs[0].shape)
        (answer,) = self._session.run(None, {"image": image})
        reply = oip.ModelInferResponse(model_name=asked.model_name, model_version=asked.model_version)
        reply.outputs.add(name="probabilities", datatype="FP32", shape=answer.shape)
        reply.raw_output_contents.append(answer.tobytes())
        self.in_flight -= 1
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
async def a_gateway(folder: Path, entry: dict[str, Any]) -> AsyncIterator[StartedGateway]:
    """One whose only entry is called `found`; started and stopped in a thread: engines run in this one."""
    settings = {
        "endpoints": {"found": {"backend": "triton", **entry}},
        "pools": POOLS,
        "balancing": OFTEN,
        "batching": {"enabled": False},  # requests are counted at the endpoints
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


async def test_servers_come_and_go_in_a_file_under_load_and_no_request_fails(tmp_path: Path) -> None:
    path = tmp_path / "engines.yaml"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(an_engine())
        second = await stack.enter_async_context(an_engine())
        write(path, first)
        gateway = await stack.enter_async_context(a_gateway(tmp_path / "gateway", {"file": str(path)}))
        name = f"found/{first.address}"

        async def come_and_go() -> None:
            write(path, first, second)
            await until(lambda: second.calls > 100)  # more than the warm-up
            write(path, second)
            await until(lambda: f'endpoint="{name}"' not in gateway.metrics())
            await until(lambda: first.in_flight == 0)
            calls, others = first.calls, second.calls
            await until(lambda: second.calls > others + 200)
            assert first.calls == calls
            assert not first.is_connected
            path.write_text("- half a fi")
            lookups = "gateway_discovery_lookups_total"
            await until(lambda: gateway.metric(lookups, endpoint="found", result="failed") >= 2)
            path.write_text("")
            await until(lambda: gateway.metric(lookups, endpoint="found", result="empty") >= 2)
            write(path, first, second)
            await until(lambda: first.calls > calls + 100)

        images = await asyncio.to_thread(distinct_images, 6000)  # the engines are in this loop
        outcome = await drive(gateway.http, images, connections=16, events={100: come_and_go})
        assert outcome.failed == {}
        assert gateway.metric("gateway_retries_total") == 0
        assert gateway.metric("gateway_attempt_duration_seconds_count", outcome="ok") == 6000


async def test_a_name_leads_to_an_endpoint_for_each_of_its_addresses(tmp_path: Path) -> None:
    async with an_engine() as engine:
        port = engine.address.rpartition(":")[2]
        async with a_gateway(tmp_path, {"dns": f"localhost:{port}"}) as gateway:
            outcome = await drive(gateway.http, distinct_images(50), connections=4)
            assert outcome.failed == {}
            available = "gateway_endpoint_available_ratio"
            assert gateway.metric(available, endpoint=f"found/127.0.0.1:{port}") == 1
            addresses = {one[4][0] for one in socket.getaddrinfo("localhost", None)}
            assert gateway.metrics().count(f"\n{available}{{") == len(addresses)


@pytest.mark.parametrize(("made_out_to", "is_trusted"), [("localhost", True), ("127.0.0.1", False)])
async def test_a_certificate_is_held_against_the_name_that_was_looked_up(
    tmp_path: Path, made_out_to: str, is_trusted: bool
) -> None:
    files = Authority(tmp_path).issue("engine", made_out_to)
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    async with an_engine(grpc.ssl_server_credentials([pair])) as engine:
        port = engine.address.rpartition(":")[2]
        entry = {"backend": "triton", "dns": f"localhost:{port}", "tls": {"ca": str(files.ca)}}
        settings = {"models": [str(ROOT / "models" / MODEL)], "endpoints": {"found": entry}, "pools": POOLS}
        path = tmp_path / "inferway.yaml"
        path.write_text(yaml.safe_dump(settings))
        async with build(load_settings(path, {}), tmp_path) as gateway:
            if is_trusted:
                await until(lambda: gateway.serving.is_ready(MODEL, "1"))
            assert gateway.serving.is_ready(MODEL, "1") is is_trusted
            assert (engine.calls > 0) is is_trusted
