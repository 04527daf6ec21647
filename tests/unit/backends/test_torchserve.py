"""The TorchServe backend against a fake server that answers as the real one was seen to."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from gateway import tensor_frame
from gateway.backends.torchserve import INFERENCE, MANAGEMENT, TorchServe
from gateway.contract import Contract
from gateway.errors import (
    BadReply,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    HandlerFailed,
    InferwayError,
    InvalidTensor,
    RejectedByBackend,
    VersionNotFound,
)
from gateway.inference import InferRequest, Tensor, split_bytes
from services.launch import free_port
from services.protocol.torchserve_pb2 import (
    DescribeModelRequest,
    ManagementResponse,
    PredictionResponse,
    PredictionsRequest,
    TorchServeHealthResponse,
)
from tests.fakes import a_version

LIMIT = 1024 * 1024
CONTRACT = Contract.model_validate(
    {
        "name": "adder",
        "max_batch_size": 8,
        "inputs": [{"name": "values", "datatype": "FP32", "shape": [2]}],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [1]},
            {"name": "count", "datatype": "INT64", "shape": [1]},
        ],
        "default_version": "1",
        "versions": {"1": a_version("fp32", "int8")},
    }
)
SUMS = Tensor.of("sum", "FP32", np.array([[3.0], [7.0]]))
COUNTS = Tensor.of("count", "INT64", np.array([[2], [2]]))

Answer = Callable[[PredictionsRequest, Any], Awaitable[PredictionResponse]]


class FakeTorchServe:
    """Answers Predictions with `answer`; its workers are in the states that `workers` lists."""

    def __init__(self) -> None:
        self.answer: Answer = frame(SUMS, COUNTS)
        self.workers = ["READY"]
        self.description = ""
        self.requests: list[PredictionsRequest] = []
        self.described: list[DescribeModelRequest] = []

    async def predictions(self, request: PredictionsRequest, context: Any) -> PredictionResponse:
        self.requests.append(request)
        return await self.answer(request, context)

    async def ping(self, _: Empty, context: Any) -> TorchServeHealthResponse:
        del context
        return TorchServeHealthResponse(health="Healthy")

    async def describe(self, request: DescribeModelRequest, context: Any) -> ManagementResponse:
        self.described.append(request)
        if request.model_name not in {"adder", "adder-int8", "own"}:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Model not found")
        workers = [{"status": state} for state in self.workers]
        return ManagementResponse(msg=self.description or orjson.dumps([{"workers": workers}]).decode())

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        def method(call: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                call,
                request_deserializer=request.FromString,
                response_serializer=lambda m: m.SerializeToString(),
            )

        inference = {
            "Predictions": method(self.predictions, PredictionsRequest),
            "Ping": method(self.ping, Empty),
        }
        management = {"DescribeModel": method(self.describe, DescribeModelRequest)}
        return [
            grpc.method_handlers_generic_handler(INFERENCE[1:], inference),
            grpc.method_handlers_generic_handler(MANAGEMENT[1:], management),
        ]


def raw(prediction: bytes) -> Answer:
    async def answer(request: PredictionsRequest, context: Any) -> PredictionResponse:
        del request, context
        return PredictionResponse(prediction=prediction)

    return answer


def frame(*tensors: Tensor, **meta: Any) -> Answer:
    return raw(tensor_frame.pack(meta, tensors))


def failure(code: grpc.StatusCode, details: str) -> Answer:
    async def answer(request: PredictionsRequest, context: Any) -> PredictionResponse:
        del request
        await context.abort(code, details)
        raise AssertionError

    return answer


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeTorchServe]:
    yield FakeTorchServe()


@pytest_asyncio.fixture
async def server(fake: FakeTorchServe) -> AsyncIterator[str]:
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    server.add_generic_rpc_handlers(fake.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def backend_at(address: str) -> TorchServe:
    return TorchServe(
        address, management_address=address, contracts={"adder": CONTRACT}, max_request_bytes=LIMIT
    )


@pytest_asyncio.fixture
async def backend(server: str) -> AsyncIterator[TorchServe]:
    backend = backend_at(server)
    yield backend
    await backend.aclose()


def request(**changes: Any) -> InferRequest:
    values = Tensor.of("values", "FP32", np.array([[1.0, 2.0], [3.0, 4.0]]))
    fields: dict[str, Any] = {
        "model": "adder",
        "inputs": (values,),
        "deadline": time.monotonic() + 10,
        "version": "1",
        "variant": "fp32",
    }
    return InferRequest(**{**fields, **changes})


def own(**changes: Any) -> InferRequest:
    payload = Tensor.of_bytes("data", (1,), [b"\x89PNG"])
    return request(**{"model": "own", "inputs": (payload,), "version": "", "variant": "", **changes})


async def test_tensors_travel_raw_beside_a_header(backend: TorchServe, fake: FakeTorchServe) -> None:
    asked = request(outputs=("count", "sum"), variant="int8")
    fake.answer = frame(COUNTS, SUMS)
    response = await backend(asked)
    (sent,) = fake.requests
    assert (sent.model_name, sent.model_version) == ("adder-int8", "1")
    assert sent.input["values"] == asked.inputs[0].data
    assert orjson.loads(sent.input["header"]) == {
        "inputs": [{"name": "values", "datatype": "FP32", "shape": [2, 2]}],
        "outputs": ["count", "sum"],
    }
    assert [tensor.name for tensor in response.outputs] == ["count", "sum"]
    assert response.outputs[1].numpy().tolist() == [[3.0], [7.0]]
    assert (response.backend, response.version, response.variant) == ("torchserve", "1", "int8")


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        ("INTERNAL", "Model not found: adder\norg.pytorch...ModelNotFoundException", EndpointFailed),
        ("INTERNAL", 'Model "adder" has no worker to serve inference request. Please use', EndpointBusy),
        ("INTERNAL", "Worker died.\norg.pytorch.serve.http.InternalServerException", EndpointFailed),
        ("INVALID_ARGUMENT", "shape mismatch\norg.pytorch", RejectedByBackend),
        ("UNAVAILABLE", "Prediction failed\norg.pytorch.serve.http.InternalServerException", HandlerFailed),
        ("UNAVAILABLE", "Socket closed", EndpointFailed),
        ("CANCELLED", "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))", EndpointFailed),
        ("RESOURCE_EXHAUSTED", "Worker died.", EndpointFailed),
        ("INTERNAL", "ModelVersionNotFoundException", EndpointFailed),
    ],
)
async def test_the_text_of_an_error_decides_what_it_means(
    backend: TorchServe, fake: FakeTorchServe, code: str, details: str, expected: type[InferwayError]
) -> None:
    fake.answer = failure(grpc.StatusCode[code], details)
    with pytest.raises(InferwayError) as caught:
        await backend(request())
    assert type(caught.value) is expected
    assert str(caught.value) == f"TorchServe: {details.splitlines()[0]}"


async def test_refused_connection_is_unreachable_and_not_ready() -> None:
    backend = backend_at(f"127.0.0.1:{free_port()}")
    try:
        with pytest.raises(EndpointUnreachable):
            await backend(request())
        assert not await backend.is_ready("adder", "1", "fp32")
    finally:
        await backend.aclose()


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (frame(SUMS), "outputs"),
        (frame(COUNTS, SUMS), "outputs"),
        (frame(SUMS, Tensor.of("count", "INT32", np.array([[2], [2]]))), "INT32"),
        (frame(Tensor.of("sum", "FP32", np.array([[3.0]])), COUNTS), "[1, 1]"),
        (frame(SUMS, Tensor("count", "INT64", (2, 1), b"12345678")), "8 bytes"),
        (raw(b""), "not a tensor frame"),
        (raw(b'{"code": 500}'), "not a tensor frame"),
        (raw(tensor_frame.pack({}, (SUMS, COUNTS))[:-3]), "bytes"),
    ],
)
async def test_reply_with_the_wrong_tensors_is_a_bad_reply(
    backend: TorchServe, fake: FakeTorchServe, answer: Answer, what: str
) -> None:
    fake.answer = answer
    with pytest.raises(BadReply) as caught:
        await backend(request())
    assert what in str(caught.value)


async def test_reply_larger_than_the_limit_is_a_bad_reply(backend: TorchServe, fake: FakeTorchServe) -> None:
    fake.answer = raw(bytes(2 * LIMIT))
    with pytest.raises(BadReply):
        await backend(request())


async def test_an_error_of_one_item_blames_its_input(backend: TorchServe, fake: FakeTorchServe) -> None:
    fake.answer = frame(error="tensor 'values': expected 8 bytes", blame="input")
    with pytest.raises(RejectedByBackend, match="expected 8 bytes"):
        await backend(request())


async def test_an_error_of_the_model_blames_the_endpoint(backend: TorchServe, fake: FakeTorchServe) -> None:
    fake.answer = frame(error="the model failed", blame="server")
    with pytest.raises(EndpointFailed, match="the model failed"):
        await backend(request())


async def test_a_caller_who_leaves_does_not_cancel_the_call(
    backend: TorchServe, fake: FakeTorchServe
) -> None:
    arrived, leave = asyncio.Event(), asyncio.Event()
    outcome: list[str] = []

    async def slow(sent: PredictionsRequest, context: Any) -> PredictionResponse:
        arrived.set()
        try:
            await leave.wait()
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise
        outcome.append("answered")
        return await frame(SUMS, COUNTS)(sent, context)

    fake.answer = slow
    caller = asyncio.ensure_future(backend(request()))
    await arrived.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    leave.set()
    await backend.aclose()
    assert outcome == ["answered"]


async def test_the_failure_of_an_abandoned_call_is_nobodys(backend: TorchServe, fake: FakeTorchServe) -> None:
    leave = asyncio.Event()
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))

    async def slow(sent: PredictionsRequest, context: Any) -> PredictionResponse:
        await leave.wait()
        return await failure(grpc.StatusCode.INTERNAL, "Worker died.")(sent, context)

    fake.answer = slow
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(backend(request()), 0.1)
    leave.set()
    await backend.aclose()
    assert unseen == []


@pytest.mark.parametrize(
    ("workers", "ready"),
    [(["READY"], True), (["UNLOADING", "READY"], True), (["UNLOADING"], False), ([], False)],
)
async def test_ready_means_a_ready_worker(
    backend: TorchServe, fake: FakeTorchServe, workers: list[str], ready: bool
) -> None:
    fake.workers = workers
    assert await backend.is_ready("adder", "1", "int8") is ready
    (asked,) = fake.described
    assert (asked.model_name, asked.model_version) == ("adder-int8", "1")


async def test_a_description_of_another_form_is_not_ready(backend: TorchServe, fake: FakeTorchServe) -> None:
    fake.description = "no JSON"
    assert not await backend.is_ready("adder", "1", "fp32")


async def test_an_unknown_model_is_not_ready(backend: TorchServe) -> None:
    assert not await backend.is_ready("nope", "", "")


async def test_bytes_of_a_model_without_a_contract_pass_unchanged(
    backend: TorchServe, fake: FakeTorchServe
) -> None:
    fake.answer = raw(b'{"cat": 0.9}')
    response = await backend(own())
    (sent,) = fake.requests
    assert (sent.model_name, sent.model_version) == ("own", "")
    assert dict(sent.input) == {"data": b"\x89PNG"}
    (output,) = response.outputs
    assert (output.name, output.datatype, output.shape) == ("prediction", "BYTES", (1,))
    assert list(split_bytes(output)) == [b'{"cat": 0.9}']
    assert await backend.is_ready("own", "", "")


async def test_unknown_version_of_a_model_without_a_contract_is_the_callers_fault(
    backend: TorchServe, fake: FakeTorchServe
) -> None:
    details = "Model version: 9 does not exist for model: own\norg.pytorch...ModelVersionNotFoundException"
    fake.answer = failure(grpc.StatusCode.INTERNAL, details)
    with pytest.raises(VersionNotFound):
        await backend(own(version="9"))


async def test_a_model_without_a_contract_takes_only_single_bytes(backend: TorchServe) -> None:
    with pytest.raises(InvalidTensor):
        await backend(own(inputs=(Tensor.of_bytes("data", (2,), [b"a", b"b"]),)))
    with pytest.raises(InvalidTensor):
        await backend(own(inputs=(Tensor.of("data", "FP32", np.zeros(1)),)))
