"""OIP gRPC as clients see it that know the official names: Triton's own, and any that reads reflection."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.utils import InferenceServerException

from tests.unit.protocols.oip_grpc_rig import Rig


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


@pytest_asyncio.fixture
async def client(rig: Rig) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(rig.address) as client:
        yield client


def image() -> list[triton.InferInput]:
    tensor = triton.InferInput("image", [2, 2, 2], "FP32")
    tensor.set_data_from_numpy(np.ones((2, 2, 2), np.float32))
    return [tensor]


async def test_infer(client: triton.InferenceServerClient) -> None:
    result = await client.infer(
        "digits",
        image(),
        outputs=[triton.InferRequestedOutput("scores")],
        request_id="7",
        timeout=5_000_000,
        client_timeout=5.0,
        parameters={"seed": 3},
        compression_algorithm="gzip",
    )
    assert np.array_equal(result.as_numpy("scores"), np.array([[0.25, 3.5, 1.0]] * 2, np.float32))
    assert result.get_response().id == "7"


async def test_infer_of_bytes(client: triton.InferenceServerClient) -> None:
    tensor = triton.InferInput("x", [1, 2], "BYTES")
    tensor.set_data_from_numpy(np.array([["ab", "c"]], dtype=np.object_))
    result = await client.infer("bytes", [tensor])
    assert result.as_numpy("y").tolist() == [[b"ab", b"c"]]


async def test_classification(client: triton.InferenceServerClient) -> None:
    wanted = triton.InferRequestedOutput("scores", class_count=1)
    result = await client.infer("digits", image(), outputs=[wanted])
    assert result.as_numpy("scores").tolist() == [[b"3.500000:1:one"]] * 2


async def test_stream(client: triton.InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for model in ("digits", "nope"):
            yield {"model_name": model, "inputs": image(), "request_id": model}

    replies = [reply async for reply in client.stream_infer(requests())]
    (good, no_error), (_, error) = replies
    assert no_error is None
    assert good.as_numpy("sum").shape == (2, 1)
    assert "model 'nope' is not found" in str(error)


async def test_facts(client: triton.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("digits", "1")
    assert not await client.is_model_ready("digits", "9")
    assert not await client.is_model_ready("nope")
    assert (await client.get_server_metadata()).name == "inferway"
    metadata = await client.get_model_metadata("digits", "1")
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.inputs] == [("image", "FP32", [-1, 2, 2])]
    config = (await client.get_model_config("digits")).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (8, [2, 2])
    assert list(config.version_policy.specific.versions) == [1]
    index = await client.get_model_repository_index()
    assert ("digits", "1", "READY") in [(m.name, m.version, m.state) for m in index.models]


async def test_statistics_count_what_was_asked(client: triton.InferenceServerClient) -> None:
    for _ in range(3):
        await client.infer("digits", image())
    statistics = await client.get_inference_statistics("digits")
    assert statistics.model_stats[0].inference_stats.success.count == 3
    everything = await client.get_inference_statistics()
    assert {"digits", "fp32"} <= {each.name for each in everything.model_stats}


async def test_errors_have_tritons_codes(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="model 'nope' is not found") as raised:
        await client.get_model_metadata("nope")
    assert raised.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException) as raised:
        await client.load_model("digits")
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException) as raised:
        await client.get_system_shared_memory_status()
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
async def test_a_client_that_knows_nothing_finds_the_service_by_reflection(rig: Rig, package: str) -> None:
    stub: Any = rig.channel.stream_stream(
        f"/{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    async def questions() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService")

    listed, described = [reply async for reply in stub(questions())]
    services = {service.name for service in listed.list_services_response.service}
    assert {
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        f"{package}.ServerReflection",
    } <= services
    pool = descriptor_pool.DescriptorPool()
    for file in described.file_descriptor_response.file_descriptor_proto:
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file))
    method = pool.FindMethodByName("inference.GRPCInferenceService.ModelMetadata")
    asked = message_factory.GetMessageClass(method.input_type)(name="digits")
    call: Any = rig.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelMetadata",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    assert (await call(asked)).name == "digits"


async def test_a_service_that_there_is_not_is_unimplemented(rig: Rig) -> None:
    call: Any = rig.channel.unary_unary("/inferway.oip.GRPCInferenceService/ServerLive")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
