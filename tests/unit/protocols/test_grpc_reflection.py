"""A client that has no .proto file finds every service, and calls it, by reflection."""

from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2 as pb

from gateway.inference import InferRequest, Tensor
from gateway.protocols import grpc_reflection, oip_grpc, tfserving_grpc, torchserve_grpc
from tests.fakes import FakeInfer, fake_contract, fake_edge
from tests.grpc_serving import GrpcServing

MODEL = fake_contract("m", {"x": ("FP32", [2])}, {"y": ("FP32", [2])})
SERVICES = {
    oip_grpc.SERVICE,
    tfserving_grpc.PREDICTION_SERVICE,
    tfserving_grpc.MODEL_SERVICE,
    torchserve_grpc.SERVICE,
    "grpc.health.v1.Health",
}


def doubled(request: InferRequest) -> tuple[Tensor, ...]:
    return (Tensor.of("y", "FP32", request.inputs[0].numpy() * 2),)


class Stranger:
    """A client that knows nothing but an address."""

    def __init__(self, channel: grpc.aio.Channel, package: str) -> None:
        self.channel = channel
        self.package = package
        self.pool = descriptor_pool.DescriptorPool()

    async def ask(self, **question: Any) -> Any:
        stub: Any = self.channel.stream_stream(
            f"/{self.package}.ServerReflection/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )

        async def questions() -> AsyncIterator[Any]:
            yield pb.ServerReflectionRequest(**question)

        (reply,) = [reply async for reply in stub(questions())]
        return reply

    async def call(self, service: str, method: str, content: dict[str, Any]) -> dict[str, Any]:
        """A method by names, as JSON."""
        found = await self.ask(file_containing_symbol=service)
        files = found.file_descriptor_response.file_descriptor_proto
        for file in reversed(files):  # what others import comes last
            self.pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file))
        described = self.pool.FindMethodByName(f"{service}.{method}")
        request = json_format.ParseDict(content, message_factory.GetMessageClass(described.input_type)())
        stub: Any = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        answer: dict[str, Any] = json_format.MessageToDict(await stub(request), descriptor_pool=self.pool)
        return answer


class Rig:
    """Every service on one server, as the gateway has them."""

    async def __aenter__(self) -> Self:
        edge = fake_edge(FakeInfer(doubled), MODEL)
        served = dict(grpc_reflection.methods())
        for module in (oip_grpc, tfserving_grpc, torchserve_grpc):
            served |= module.methods(edge)
        self.server = await GrpcServing(served, edge).start()
        self.channel = grpc.aio.insecure_channel(self.server.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop()


@pytest_asyncio.fixture(params=["grpc.reflection.v1", "grpc.reflection.v1alpha"])
async def stranger(request: pytest.FixtureRequest) -> AsyncIterator[Stranger]:
    async with Rig() as rig:
        yield Stranger(rig.channel, request.param)


async def test_every_service_is_listed_by_its_real_name(stranger: Stranger) -> None:
    listed = (await stranger.ask(list_services="")).list_services_response.service
    own = {"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
    assert {service.name for service in listed} == SERVICES | own


async def test_oip_is_called_with_nothing_but_reflection(stranger: Stranger) -> None:
    answer = await stranger.call(oip_grpc.SERVICE, "ModelMetadata", {"name": "m"})
    assert answer["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]


async def test_tf_serving_is_called_with_nothing_but_reflection(stranger: Stranger) -> None:
    shape = {"dim": [{"size": 1}, {"size": 2}]}
    x = {"dtype": "DT_FLOAT", "tensor_shape": shape, "float_val": [1.5, 2.0]}
    service = tfserving_grpc.PREDICTION_SERVICE
    answer = await stranger.call(service, "Predict", {"model_spec": {"name": "m"}, "inputs": {"x": x}})
    assert np.allclose(answer["outputs"]["y"]["floatVal"], [3.0, 4.0])


async def test_what_tf_serving_packs_in_any_is_found_by_reflection(stranger: Stranger) -> None:
    asked = {"model_spec": {"name": "m"}, "metadata_field": ["signature_def"]}
    answer = await stranger.call(tfserving_grpc.PREDICTION_SERVICE, "GetModelMetadata", asked)
    packed = answer["metadata"]["signature_def"]
    assert packed["@type"] == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    assert set(packed["signatureDef"]["serving_default"]["inputs"]) == {"x"}


async def test_model_status_is_called_with_nothing_but_reflection(stranger: Stranger) -> None:
    answer = await stranger.call(
        tfserving_grpc.MODEL_SERVICE, "GetModelStatus", {"model_spec": {"name": "m"}}
    )
    assert [status["state"] for status in answer["modelVersionStatus"]] == ["AVAILABLE"]


async def test_torchserve_is_called_with_nothing_but_reflection(stranger: Stranger) -> None:
    assert "Healthy" in (await stranger.call(torchserve_grpc.SERVICE, "Ping", {}))["health"]


async def test_our_own_names_are_not_to_be_found(stranger: Stranger) -> None:
    for symbol in ("inferway.oip.ModelInferRequest", "inferway.tfserving.PredictRequest"):
        assert (await stranger.ask(file_containing_symbol=symbol)).error_response.error_code == 5
