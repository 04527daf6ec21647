"""TorchServe's gRPC over a FakeInfer, through a real server."""

from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
import orjson
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from gateway.errors import Unavailable
from gateway.inference import split_bytes
from gateway.protocols.torchserve_grpc import SERVICE, methods
from services.protocol.torchserve_pb2 import PredictionResponse, PredictionsRequest, TorchServeHealthResponse
from tests.fakes import Answer
from tests.grpc_serving import GrpcServing
from tests.unit.protocols.torchserve_rig import FILE, torchserve_edge


class Rig:
    """A server over a FakeInfer, and a channel to it; an async context manager."""

    def __init__(self, *answers: Answer, **attributes: Any) -> None:
        self.edge, self.infer = torchserve_edge(*answers, **attributes)

    async def __aenter__(self) -> Self:
        self.server = await GrpcServing(methods(self.edge), self.edge).start()
        self.channel = grpc.aio.insecure_channel(self.server.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop()

    def predict(self, model: str, version: str = "", metadata: Any = (), **fields: bytes) -> Any:
        method = self.channel.unary_unary(
            f"/{SERVICE}/Predictions",
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        message = PredictionsRequest(model_name=model, model_version=version, input=fields)
        return method(message, timeout=10, metadata=metadata)

    async def ping(self) -> str:
        method = self.channel.unary_unary(
            f"/{SERVICE}/Ping",
            request_serializer=Empty.SerializeToString,
            response_deserializer=TorchServeHealthResponse.FromString,
        )
        reply: TorchServeHealthResponse = await method(Empty(), timeout=10)
        return reply.health


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


@pytest.mark.parametrize(
    "fields", [{"data": FILE}, {"body": FILE, "a": b"x"}, {"data": FILE, "body": b"x"}, {"picture": FILE}]
)
async def test_a_files_bytes_are_answered_by_labels(rig: Rig, fields: dict[str, bytes]) -> None:
    call = rig.predict("digits", "2", **fields)
    reply = await call
    assert orjson.loads(reply.prediction) == {"odd": 1.0, "even": 0.0}
    facts = dict(await call.trailing_metadata())
    assert (facts["x-inferway-version"], facts["x-inferway-backend"]) == ("2", "fake")
    (asked,) = rig.infer.requests
    assert (asked.version, asked.inputs[0].shape) == ("2", (1, 3))


async def test_a_model_without_a_transform_takes_json(rig: Rig) -> None:
    reply = await rig.predict("plain", body=b'{"instances": [{"x": [1, 2]}, [3, 4]]}')
    predictions = orjson.loads(reply.prediction)["predictions"]
    assert [item["y"] for item in predictions] == [[1.0, 2.0], [3.0, 4.0]]


async def test_a_model_without_a_contract_gets_and_gives_bytes_unchanged(rig: Rig) -> None:
    reply = await rig.predict("own", data=b"\x00\xff", more=b"1")
    assert reply.prediction == b"raw \xff reply"
    (asked,) = rig.infer.requests
    sent = {tensor.name: next(iter(split_bytes(tensor))) for tensor in asked.inputs}
    assert sent == {"data": b"\x00\xff", "more": b"1"}


@pytest.mark.parametrize(
    ("model", "version", "data", "code", "text"),
    [
        ("nope", "", FILE, "NOT_FOUND", "Model not found: nope\n"),
        ("digits", "9", FILE, "NOT_FOUND", "ModelVersionNotFoundException"),
        ("digits", "9", b"no image either", "NOT_FOUND", "ModelVersionNotFoundException"),
        ("digits", "", b"no", "INVALID_ARGUMENT", "image: expected an IMG file"),
        ("plain", "", b"no", "INVALID_ARGUMENT", "not JSON"),
    ],
)
async def test_errors_have_right_codes_and_torchserves_texts(
    rig: Rig, model: str, version: str, data: bytes, code: str, text: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.predict(model, version, data=data)
    assert caught.value.code() is grpc.StatusCode[code]
    assert text in (caught.value.details() or "")
    assert rig.infer.requests == []


async def test_a_message_of_too_many_entries_is_refused(rig: Rig) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="input: expected at most 1000 entries, got 1001"):
        await rig.predict("own", "", (), **dict.fromkeys(map(str, range(1001)), b""))
    assert rig.infer.requests == []


async def test_no_endpoint_left_is_unavailable_with_retry_after() -> None:
    async with Rig(Unavailable("no endpoint left", retry_after_seconds=2)) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.predict("digits", data=FILE)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["retry-after"] == "2"


async def test_ping_says_whether_every_model_can_be_answered(rig: Rig) -> None:
    assert await rig.ping() == '{\n  "status": "Healthy"\n}'
    async with Rig(ready=False) as unready:
        assert orjson.loads(await unready.ping()) == {"status": "Unhealthy"}


async def test_variant_and_priority_are_asked_for_in_metadata(rig: Rig) -> None:
    asked = (("x-inferway-variant", "int8"), ("x-request-priority", "2"))
    await rig.predict("plain", data=b"[1, 2]", metadata=asked)
    assert (rig.infer.requests[0].variant, rig.infer.requests[0].priority) == ("int8", 2)


@pytest.mark.parametrize("name", ["StreamPredictions", "StreamPredictions2"])
async def test_streams_are_unimplemented_and_say_so(rig: Rig, name: str) -> None:
    stub: Any = rig.channel.unary_stream(f"/{SERVICE}/{name}")
    with pytest.raises(grpc.aio.AioRpcError, match="Inferway") as raised:
        await stub(PredictionsRequest(model_name="digits").SerializeToString()).read()
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
