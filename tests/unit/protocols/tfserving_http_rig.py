"""TF Serving's REST routes over a FakeInfer, for the tests of the protocol."""

import math
from typing import Any

import httpx
import numpy as np
import orjson
from starlette.applications import Starlette

from gateway.inference import InferRequest, Tensor
from gateway.protocols.tfserving_http import routes
from tests.fakes import Answer, FakeInfer, a_version, fake_contract, fake_edge

NUMBERS = ["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
VERSIONS = {version: a_version("fp32", "int8") for version in ("1", "2", "10")}
DIGITS = fake_contract(
    "digits",
    {"image": ("FP32", [2, 2])},
    {"scores": ("FP32", [3])},
    versions=VERSIONS,
    default_version="2",
    labels={"stable": "1"},
)
PAIR = fake_contract(
    "pair",
    {"x": ("INT64", [2]), "text": ("BYTES", [1])},
    {"double": ("INT64", [2]), "total": ("FP32", []), "raw_bytes": ("BYTES", [1]), "text": ("BYTES", [])},
)
SCALAR = fake_contract("scalar", {"x": ("FP32", [])}, {"y": ("FP32", [])}, max_batch_size=0)
ECHOES = [
    fake_contract(name.lower(), {"x": (name, [-1])}, {"y": (name, [-1])})
    for name in (*NUMBERS, "BOOL", "BYTES", "FP16")
]
IMAGE = [[0.0, 0.5], [1.0, 0.25]]


def outputs(request: InferRequest) -> tuple[Tensor, ...]:
    first = request.inputs[0]
    if request.model == "digits":
        return (Tensor.of("scores", "FP32", np.tile([0.1, 2.0, 0.3], (first.shape[0], 1))),)
    if request.model == "pair":
        rows = first.shape[0]
        return (
            Tensor.of("double", "INT64", first.numpy() * 2),
            Tensor.of("total", "FP32", np.array([0.1, math.nan, -math.inf][:rows])),
            Tensor.of_bytes("raw_bytes", (rows, 1), [b"\x00\xff"] * rows),
            Tensor.of_bytes("text", (rows,), [b"plain", b"\xff", b""][:rows]),
        )
    return (Tensor("y", first.datatype, first.shape, bytes(first.data)),)


class Rig:
    """The routes over a FakeInfer."""

    def __init__(self, *answers: Answer, ready: bool = True) -> None:
        self.infer = FakeInfer(*(answers or (outputs,)))
        edge = fake_edge(self.infer, DIGITS, PAIR, SCALAR, *ECHOES, ready=ready)
        self.transport = httpx.ASGITransport(Starlette(routes=list(routes(edge))))

    async def request(self, method: str, path: str, content: Any = b"", **headers: str) -> httpx.Response:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        async with httpx.AsyncClient(transport=self.transport, base_url="http://gateway") as client:
            return await client.request(method, path, content=body, headers=headers)

    async def predict(self, model: str, content: Any, **headers: str) -> httpx.Response:
        return await self.request("POST", f"/v1/models/{model}:predict", content, **headers)

    async def error(self, model: str, content: Any, status: int = 400) -> str:
        """The text of a refusal that cost no inference."""
        reply = await self.predict(model, content)
        assert (reply.status_code, list(reply.json())) == (status, ["error"])
        assert self.infer.requests == []
        text: str = reply.json()["error"]
        return text
