"""An engine that says OK with the wrong bytes: clients get a right answer from another, or a 503."""

import asyncio
from collections.abc import AsyncIterator
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
from tests.load import TOLERANCE, distinct_images, reference
from tests.serving import EMBEDDED, MODEL, ROOT, until_all_ready

INFER = f"/v2/models/{MODEL}/infer"


class Liar:
    """Speaks Triton's protocol; all its answers have `size_bytes`, 40 of which are right for one image."""

    def __init__(self) -> None:
        self.size_bytes = 40
        self.lies = 0

    async def infer(self, asked: oip.ModelInferRequest, _: Any) -> oip.ModelInferResponse:
        self.lies += self.size_bytes != 40
        reply = oip.ModelInferResponse(model_name=asked.model_name, model_version=asked.model_version)
        reply.outputs.add(name="probabilities", datatype="FP32", shape=[1, 10])
        reply.raw_output_contents.append(bytes(self.size_bytes))
        return reply

    async def ready(self, _: oip.ModelReadyRequest, __: Any) -> oip.ModelReadyResponse:
        return oip.ModelReadyResponse(ready=True)

    def handler(self) -> grpc.GenericRpcHandler:
        def unary(method: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=request.FromString,
                response_serializer=lambda reply: reply.SerializeToString(),
            )

        return grpc.method_handlers_generic_handler(
            "inference.GRPCInferenceService",
            {
                "ModelInfer": unary(self.infer, oip.ModelInferRequest),
                "ModelReady": unary(self.ready, oip.ModelReadyRequest),
            },
        )


@pytest_asyncio.fixture
async def liar() -> AsyncIterator[tuple[Liar, str]]:
    """The engine, and its address."""
    engine = Liar()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((engine.handler(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield engine, address
    await server.stop(None)


def built(folder: Path, endpoints: dict[str, Any]) -> Gateway:
    settings = {
        "models": [str(ROOT / "models" / MODEL)],
        "endpoints": endpoints,
        "pools": [{"model": MODEL, "endpoints": list(endpoints)}],
    }
    path = folder / "inferway.yaml"
    path.write_text(yaml.safe_dump(settings))
    return build(load_settings(path, {}), folder)


async def ask(gateway: Gateway, image: NDArray[np.float32]) -> httpx.Response:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": image.ravel().tolist()}
    transport = httpx.ASGITransport(gateway.http)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.post(INFER, json={"inputs": [tensor]})


@pytest.mark.parametrize("size_bytes", [0, 36, 44])
async def test_another_engine_answers_for_one_whose_replies_have_the_wrong_length(
    liar: tuple[Liar, str], tmp_path: Path, size_bytes: int
) -> None:
    engine, address = liar
    endpoints = {"liar": {"backend": "triton", "address": address}, "embedded": EMBEDDED}
    images = distinct_images(30)
    async with built(tmp_path, endpoints) as gateway:
        await until_all_ready(gateway)
        engine.size_bytes = size_bytes
        replies = await asyncio.gather(*(ask(gateway, image) for image in images))
    assert engine.lies >= 1  # of a batch, which counts once
    assert {(reply.status_code, reply.headers["x-inferway-backend"]) for reply in replies} == {
        (200, "onnxruntime")
    }
    rows = np.array([reply.json()["outputs"][0]["data"] for reply in replies])
    np.testing.assert_allclose(rows, reference(images), atol=TOLERANCE)


async def test_with_no_other_engine_it_is_a_503_that_says_why_and_when_to_come_back(
    liar: tuple[Liar, str], tmp_path: Path
) -> None:
    engine, address = liar
    (image,) = distinct_images(1)
    async with built(tmp_path, {"liar": {"backend": "triton", "address": address}}) as gateway:
        await until_all_ready(gateway)
        engine.size_bytes = 36
        reply = await ask(gateway, image)
        engine.size_bytes = 40
        again = await ask(gateway, image)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "tensor 'probabilities': expected 40 bytes for FP32 [1, 10], got 36 bytes" in reply.json()["error"]
    assert (again.status_code, again.headers["x-inferway-cache"]) == (200, "miss")
