"""Hedging from the configuration to the metrics: two engines, one of which becomes slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import pytest_asyncio
import yaml
from numpy.typing import NDArray

from gateway.app import Gateway, build
from gateway.loading import load_settings
from services.protocol import open_inference_pb2 as oip
from tests.load import distinct_images
from tests.serving import MODEL, ROOT, until_all_ready
from tests.unit.backends.test_open_inference import FakeTriton

SLOW_SECONDS = 1.5


class Engine(FakeTriton):
    """Says the same of every image, after a while."""

    delay_seconds = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.metadata = None  # as of a server that does not tell what it has

    async def infer(self, request: oip.ModelInferRequest, _: Any) -> oip.ModelInferResponse:
        await asyncio.sleep(self.delay_seconds)
        rows = request.inputs[0].shape[0]
        reply = oip.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        reply.outputs.add(name="probabilities", datatype="FP32", shape=[rows, 10])
        reply.raw_output_contents.append(bytes(rows * 40))
        return reply


@pytest_asyncio.fixture
async def engines() -> AsyncIterator[dict[str, Engine]]:
    """Two, by address."""
    served = {}
    async with AsyncExitStack() as stack:
        for engine in (Engine(), Engine()):
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((engine.handler(),))
            served[f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"] = engine
            await server.start()
            stack.push_async_callback(server.stop, None)
        yield served


def built(folder: Path, engines: dict[str, Engine], **hedging: Any) -> Gateway:
    endpoints = {
        f"triton-{n}": {"backend": "triton", "address": address} for n, address in enumerate(engines)
    }
    settings = {
        "models": [str(ROOT / "models" / MODEL)],
        "endpoints": endpoints,
        "pools": [{"model": MODEL, "endpoints": list(endpoints)}],
        "hedging": hedging,
    }
    path = folder / "inferway.yaml"
    path.write_text(yaml.safe_dump(settings))
    return build(load_settings(path, {}), folder)


async def ask(client: httpx.AsyncClient, image: NDArray[np.float32]) -> float:
    """The seconds until the answer."""
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": image.ravel().tolist()}
    reply = await client.post(f"/v2/models/{MODEL}/infer", json={"inputs": [tensor]})
    assert reply.status_code == 200, reply.text
    return reply.elapsed.total_seconds()


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_slow_engine_is_waited_for_only_without_hedging(
    engines: dict[str, Engine], tmp_path: Path, enabled: bool
) -> None:
    usual, late = np.split(distinct_images(150), [120])
    async with built(tmp_path, engines, enabled=enabled, budget_ratio=0.5) as gateway:
        await until_all_ready(gateway)
        transport = httpx.ASGITransport(gateway.http)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            for image in usual:
                await ask(client, image)
            next(iter(engines.values())).delay_seconds = SLOW_SECONDS
            took = await asyncio.gather(*(ask(client, image) for image in late))
    labels = {"model": MODEL, "result": "won"}
    won = gateway.metrics.registry.get_sample_value("gateway_hedges_total", labels) or 0.0
    assert (won > 0, max(took) < SLOW_SECONDS) == (enabled, enabled)
