"""A TF Serving in the same process, for the tests of its backend."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np

from gateway.contract import Contract
from gateway.inference import InferRequest, Tensor
from gateway.tensor_proto import encoded, write
from services.protocol.tfserving_pb2 import (
    DT_FLOAT,
    DT_INT64,
    DT_STRING,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
    SignatureDef,
    SignatureDefMap,
    TensorInfo,
)
from tests.fakes import a_version

CONTRACT = Contract.model_validate(
    {
        "name": "adder",
        "max_batch_size": 8,
        "inputs": [
            {"name": "values", "datatype": "FP32", "shape": [2]},
            {"name": "text", "datatype": "BYTES", "shape": [1]},
        ],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [1]},
            {"name": "count", "datatype": "INT64", "shape": [1]},
        ],
        "default_version": "1",
        "versions": {"1": a_version("fp32", "int8")},
    }
)
VALUES = Tensor.of("values", "FP32", np.array([[1.0, 2.0], [3.0, 4.0]]))
TEXT = Tensor.of_bytes("text", (2, 1), [b"one", b""])
SUM = Tensor.of("sum", "FP32", np.array([[3.0], [7.0]]))
COUNT = Tensor.of("count", "INT64", np.array([[2], [2]]))
REQUEST = InferRequest("adder", (VALUES, TEXT), deadline=math.inf, version="1", variant="fp32")

Answer = Callable[[PredictRequest, Any], Awaitable[PredictResponse]]


def an_info(dtype: Any, *shape: int) -> TensorInfo:
    info = TensorInfo(dtype=dtype)
    for size in shape:
        info.tensor_shape.dim.add(size=size)
    return info


def a_signature(**outputs: TensorInfo) -> SignatureDef:
    """As the contract has it, but for these outputs."""
    return SignatureDef(
        inputs={"values": an_info(DT_FLOAT, -1, 2), "text": an_info(DT_STRING, -1, 1)},
        outputs={"sum": an_info(DT_FLOAT, -1, 1), "count": an_info(DT_INT64, -1, 1), **outputs},
    )


class FakeServer:
    """Answers Predict with `answer`, GetModelStatus with `state`, GetModelMetadata with `signatures`."""

    def __init__(self) -> None:
        self.signatures = {"serving_default": a_signature()}
        self.metadata_failure: grpc.StatusCode | None = None
        self.asked_for_metadata: list[GetModelMetadataRequest] = []
        self.requests: list[PredictRequest] = []
        self.answer: Answer = answering(SUM, COUNT)
        self.state = ModelVersionStatus.AVAILABLE
        self.address = ""

    async def predict(self, request: PredictRequest, context: Any) -> PredictResponse:
        self.requests.append(request)
        return await self.answer(request, context)

    async def status(self, request: GetModelStatusRequest, context: Any) -> GetModelStatusResponse:
        if request.model_spec.name != "adder":
            await context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
        reply = GetModelStatusResponse()
        reply.model_version_status.add(version=request.model_spec.version.value, state=self.state)
        return reply

    async def metadata(self, request: GetModelMetadataRequest, context: Any) -> GetModelMetadataResponse:
        self.asked_for_metadata.append(request)
        if self.metadata_failure is not None:
            await context.abort(self.metadata_failure, "no metadata")
        reply = GetModelMetadataResponse()
        if self.signatures:
            packed = reply.metadata["signature_def"]
            packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
            packed.value = SignatureDefMap(signature_def=self.signatures).SerializeToString()
        return reply

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        def method(call: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                call,
                request_deserializer=request.FromString,
                response_serializer=lambda m: m.SerializeToString(),
            )

        return (
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.PredictionService",
                {
                    "Predict": method(self.predict, PredictRequest),
                    "GetModelMetadata": method(self.metadata, GetModelMetadataRequest),
                },
            ),
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.ModelService",
                {"GetModelStatus": method(self.status, GetModelStatusRequest)},
            ),
        )


def answering(*tensors: Tensor, typed: bool = True, version: int = 1) -> Answer:
    async def answer(request: PredictRequest, context: Any) -> PredictResponse:
        del context
        reply = PredictResponse()
        reply.model_spec.version.value = version
        for tensor in tensors:
            if tensor.name in (request.output_filter or [tensor.name]):
                if typed:
                    write(tensor, reply.outputs[tensor.name])
                else:
                    reply.outputs[tensor.name].ParseFromString(b"".join(encoded(tensor)))
        return reply

    return answer


def failing(code: grpc.StatusCode, text: str) -> Answer:
    async def answer(request: PredictRequest, context: Any) -> PredictResponse:
        del request
        await context.abort(code, text)
        raise AssertionError

    return answer
