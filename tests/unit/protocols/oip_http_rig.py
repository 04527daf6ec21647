"""OIP REST's routes over a FakeInfer, for the tests of the protocol."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import orjson
from starlette.applications import Starlette

from gateway.inference import InferRequest, Tensor
from gateway.protocols.edge import Edge
from gateway.protocols.oip_http import routes
from tests.fakes import Answer, FakeInfer, fake_contract, fake_edge

INFER = "/v2/models/digits/infer"
NONE: Mapping[str, str] = {}
DATATYPES = ["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
ECHOES = [
    fake_contract(name.lower(), {"x": (name, [-1])}, {"y": (name, [-1])})
    for name in (*DATATYPES, "BOOL", "BYTES", "FP16")
]
DIGITS = fake_contract(
    "digits",
    {"image": ("FP32", [2, 2])},
    {"scores": ("FP32", [3], ["zero", "one", "two"]), "sum": ("FP32", [1])},
)
SINGLE = fake_contract("single", {"text": ("BYTES", [1])}, {"y": ("FP32", [3])}, max_batch_size=0)


def outputs(request: InferRequest) -> tuple[Tensor, ...]:
    """Echo `x` as `y`; for the others, scores that depend on the first input's batch."""
    first = request.inputs[0]
    if first.name == "x":
        return (Tensor("y", first.datatype, first.shape, bytes(first.data)),)
    if first.name == "text":
        return (Tensor.of("y", "FP32", np.array([0.5, math.nan, 0.75])),)
    scores = np.tile([0.25, 3.5, 1.0], (first.shape[0], 1))
    known = {
        "scores": Tensor.of("scores", "FP32", scores),
        "sum": Tensor.of("sum", "FP32", scores.sum(1)[:, None]),
    }
    return tuple(known[name] for name in request.outputs or known)


class Rig:
    """The routes over a FakeInfer."""

    def __init__(self, *answers: Answer, **attributes: Any) -> None:
        self.infer = FakeInfer(*(answers or (outputs,)))
        self.edge: Edge = fake_edge(self.infer, DIGITS, SINGLE, *ECHOES, **attributes)
        transport = httpx.ASGITransport(Starlette(routes=routes(self.edge)))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One call; a body that is not bytes is sent as JSON."""
        content = body if isinstance(body, bytes | None) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(self.client.request(method, path, content=content, headers=named))

    def infer_x(self, datatype: str, data: Any, **more: Any) -> httpx.Response:
        """Infer on the echo of a datatype with JSON data of one row."""
        size = more.pop("size", len(data))
        body = {"inputs": [{"name": "x", "shape": [1, size], "datatype": datatype, "data": data}], **more}
        return self.request("POST", f"/v2/models/{datatype.lower()}/infer", body)


def image(**more: Any) -> dict[str, Any]:
    """A good request for `digits`."""
    return {
        "inputs": [{"name": "image", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}],
        **more,
    }


def header_and(header: Mapping[str, Any], binary: bytes) -> tuple[bytes, dict[str, str]]:
    """A body of JSON and binary data, and the header that says where the one ends."""
    text = orjson.dumps(header)
    return text + binary, {"Inference_Header_Content_Length": str(len(text))}


def split(reply: httpx.Response) -> tuple[Any, bytes]:
    """The JSON and the binary part of a reply."""
    length = int(reply.headers["inference-header-content-length"])
    assert reply.headers["content-type"] == "application/octet-stream"
    return orjson.loads(reply.content[:length]), reply.content[length:]


def tensor(**changes: Any) -> dict[str, Any]:
    """A request for `digits` whose input is changed; None takes a key away."""
    entry = {**image()["inputs"][0], **changes}
    return {"inputs": [{key: value for key, value in entry.items() if value is not None}]}


def refused(
    rig: Rig, body: Any, words: str, path: str = INFER, status: int = 400, headers: Mapping[str, str] = NONE
) -> None:
    """The call is refused, its error holds these words, and the chain was not asked."""
    reply = rig.request("POST", path, body, **headers)
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert reply.status_code == status, error
    assert set(reply.json()) == {"error"}
    assert words in error
    assert rig.infer.requests == []
