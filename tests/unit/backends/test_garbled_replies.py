"""A server that says OK with bytes that are no message: a failing endpoint, whatever its protocol."""

import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from gateway.backends import Backend
from gateway.backends.open_inference import OpenInference
from gateway.backends.tfserving import TFServing
from gateway.backends.torchserve import TorchServe
from gateway.contract import Contract
from gateway.errors import BadReply
from gateway.inference import InferRequest, Tensor
from tests.fakes import a_version

CONTRACT = Contract.model_validate(
    {
        "name": "double",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}],
        "default_version": "1",
        "versions": {"1": a_version("fp32")},
    }
)
LIMITS: dict[str, Any] = {"contracts": {"double": CONTRACT}, "max_request_bytes": 1024}
BACKENDS: dict[str, Callable[[str], Backend]] = {
    "triton": lambda address: OpenInference(address, **LIMITS),
    "tfserving": lambda address: TFServing(address, **LIMITS),
    "torchserve": lambda address: TorchServe(address, management_address=address, **LIMITS),
}
REQUEST = InferRequest(
    "double", (Tensor.of("x", "FP32", np.zeros(2)),), deadline=math.inf, version="1", variant="fp32"
)


class _Garbled(grpc.GenericRpcHandler):
    def service(self, _: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _: bytes, __: Any) -> bytes:
        return b"\xff"


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([_Garbled()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize("kind", BACKENDS)
async def test_bytes_that_are_no_message_are_a_bad_reply_and_not_ready(address: str, kind: str) -> None:
    backend = BACKENDS[kind](address)
    with pytest.raises(BadReply, match="1 bytes that are no"):
        await backend(REQUEST)
    assert not await backend.is_ready("double", "1", "fp32")
    await backend.aclose()
