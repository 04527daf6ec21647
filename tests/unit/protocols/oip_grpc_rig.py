"""The OIP gRPC service over a FakeInfer, on a socket, for the tests of the protocol."""

from typing import Any, Self

import grpc
import numpy as np

from gateway.inference import InferRequest, Tensor
from gateway.protocols import grpc_health, grpc_reflection
from gateway.protocols.edge import Edge
from gateway.protocols.oip_grpc import SERVICE, methods
from services.protocol import open_inference_pb2 as oip
from tests.fakes import Answer, FakeInfer, fake_contract, fake_edge
from tests.grpc_serving import GrpcServing

NUMERIC = ["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
ECHOES = [
    fake_contract(name.lower(), {"x": (name, [-1])}, {"y": (name, [-1])})
    for name in (*NUMERIC, "BOOL", "BYTES", "FP16")
]
DIGITS = fake_contract(
    "digits",
    {"image": ("FP32", [2, 2])},
    {"scores": ("FP32", [3], ["zero", "one", "two"]), "sum": ("FP32", [1])},
)


def outputs(request: InferRequest) -> tuple[Tensor, ...]:
    """Echo `x` as `y`; for `digits`, the same scores for each row."""
    first = request.inputs[0]
    if first.name == "x":
        return (Tensor("y", first.datatype, first.shape, bytes(first.data)),)
    scores = np.tile([0.25, 3.5, 1.0], (first.shape[0], 1))
    known = {
        "scores": Tensor.of("scores", "FP32", scores),
        "sum": Tensor.of("sum", "FP32", scores.sum(1)[:, None]),
    }
    return tuple(known[name] for name in request.outputs or known)


class Rig:
    """A server and a channel to it; an async context manager."""

    def __init__(self, *answers: Answer, **attributes: Any) -> None:
        self.infer_stage = FakeInfer(*(answers or (outputs,)))
        self.edge: Edge = fake_edge(self.infer_stage, DIGITS, *ECHOES, **attributes)

    async def __aenter__(self) -> Self:
        served = {
            **methods(self.edge),
            **grpc_health.methods(self.edge, SERVICE),
            **grpc_reflection.methods(),
        }
        self.server = await GrpcServing(served, self.edge).start()
        self.address = self.server.address
        self.channel = grpc.aio.insecure_channel(self.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop()

    async def call(self, method: str, message: Any, reply: Any, **options: Any) -> Any:
        """One unary call of the OIP service."""
        stub: Any = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return await stub(message, **options)

    async def infer(self, message: oip.ModelInferRequest, **options: Any) -> Any:
        """One inference."""
        return await self.call("ModelInfer", message, oip.ModelInferResponse, **options)

    async def fails(self, message: oip.ModelInferRequest, **options: Any) -> tuple[str, str]:
        """Code and text of an inference that must not be answered."""
        try:
            reply = await self.infer(message, **options)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        raise AssertionError(f"answered: {reply}")

    def stream(self, messages: Any) -> Any:
        """A stream of inferences."""
        stub: Any = self.channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelStreamInferResponse.FromString,
        )
        return stub(messages)


def image(rows: int = 1, **fields: Any) -> oip.ModelInferRequest:
    """A good request for `digits`, raw."""
    message = oip.ModelInferRequest(model_name="digits", **fields)
    message.inputs.add(name="image", datatype="FP32", shape=[rows, 2, 2])
    message.raw_input_contents.append(np.arange(rows * 4, dtype="<f4").tobytes())
    return message


def typed(datatype: str, field: str, values: list[Any], size: int | None = None) -> oip.ModelInferRequest:
    """A request for the echo of a datatype, with typed contents of one row."""
    message = oip.ModelInferRequest(model_name=datatype.lower())
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[1, len(values) if size is None else size])
    getattr(tensor.contents, field).extend(values)
    return message
