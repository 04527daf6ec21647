"""TF Serving's gRPC over a FakeInfer."""

from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.wrappers_pb2 import Int64Value

from gateway.errors import Unavailable
from gateway.inference import InferRequest, Tensor, split_bytes
from gateway.protocols.tfserving_grpc import MODEL_SERVICE, PREDICTION_SERVICE, methods
from services.protocol import tfserving_pb2 as pb
from tests.fakes import Answer, FakeInfer, a_version, fake_contract, fake_edge
from tests.grpc_serving import GrpcServing

VERSIONS = {version: a_version("fp32", "int8") for version in ("1", "2")}
MODEL = fake_contract(
    "m",
    {"x": ("FP32", [2]), "text": ("BYTES", [1])},
    {"y": ("FP32", [2]), "shout": ("BYTES", [1]), "rows": ("INT64", [])},
    versions=VERSIONS,
    default_version="2",
    labels={"stable": "1"},
)


def outputs(request: InferRequest) -> tuple[Tensor, ...]:
    x, text = sorted(request.inputs, key=lambda tensor: tensor.name == "text")
    made = {
        "y": Tensor.of("y", "FP32", x.numpy() * 2),
        "shout": Tensor.of_bytes("shout", text.shape, [item.upper() for item in split_bytes(text)]),
        "rows": Tensor.of("rows", "INT64", np.arange(x.shape[0])),
    }
    return tuple(made[name] for name in request.outputs or made)


class Rig:
    """A gRPC server with both services, and a client that calls by path."""

    def __init__(self, *answers: Answer) -> None:
        self.infer = FakeInfer(*(answers or (outputs,)))
        self.edge = fake_edge(self.infer, MODEL)
        self.server = GrpcServing(methods(self.edge), self.edge)

    def call(self, path: str, request: Any, reply: Any, **options: Any) -> Any:
        method: Any = self.channel.unary_unary(
            f"/{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return method(request, **options)

    def predict(self, request: pb.PredictRequest, **options: Any) -> Any:
        return self.call(f"{PREDICTION_SERVICE}/Predict", request, pb.PredictResponse, **options)

    def metadata(self, request: pb.GetModelMetadataRequest) -> Any:
        return self.call(f"{PREDICTION_SERVICE}/GetModelMetadata", request, pb.GetModelMetadataResponse)

    def status(self, request: pb.GetModelStatusRequest) -> Any:
        return self.call(f"{MODEL_SERVICE}/GetModelStatus", request, pb.GetModelStatusResponse)

    async def __aenter__(self) -> Self:
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(self.server.address, options=[("grpc.enable_http_proxy", 0)])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop()


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as made:
        yield made


def proto(dtype: Any, shape: list[int], **values: Any) -> pb.TensorProto:
    made = pb.TensorProto(dtype=dtype, **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def request(*, name: str = "m", **change: Any) -> pb.PredictRequest:
    """A good request of one row, with inputs or parts of the model spec replaced."""
    inputs = {
        "x": change.pop("x", proto(pb.DT_FLOAT, [1, 2], float_val=[1.5, 2.0])),
        "text": change.pop("text", proto(pb.DT_STRING, [1, 1], string_val=[b"a\xff"])),
        **change.pop("more", {}),
    }
    made = pb.PredictRequest(inputs=inputs, output_filter=change.pop("outputs", ()))
    made.model_spec.MergeFrom(pb.ModelSpec(name=name, **change))
    return made


def version(number: int) -> Int64Value:
    return Int64Value(value=number)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


async def test_typed_values_come_in_and_go_out(rig: Rig) -> None:
    reply = await rig.predict(request())
    assert list(reply.outputs["y"].float_val) == [3.0, 4.0]
    assert reply.outputs["y"].tensor_content == b""
    assert [dim.size for dim in reply.outputs["y"].tensor_shape.dim] == [1, 2]
    assert list(reply.outputs["shout"].string_val) == [b"A\xff"]
    assert list(reply.outputs["rows"].int64_val) == [0]


async def test_raw_content_is_the_same_as_typed_values(rig: Rig) -> None:
    raw = proto(pb.DT_FLOAT, [1, 2], tensor_content=np.array([1.5, 2.0], "<f4").tobytes())
    assert (await rig.predict(request(x=raw))).outputs == (await rig.predict(request())).outputs


async def test_one_value_fills_the_shape_and_none_is_zeros(rig: Rig) -> None:
    reply = await rig.predict(request(x=proto(pb.DT_FLOAT, [1, 2], float_val=[4.0])))
    assert list(reply.outputs["y"].float_val) == [8.0, 8.0]
    reply = await rig.predict(request(x=proto(pb.DT_FLOAT, [1, 2])))
    assert list(reply.outputs["y"].float_val) == [0.0, 0.0]


async def test_only_the_filtered_outputs_are_answered(rig: Rig) -> None:
    assert set((await rig.predict(request(outputs=["rows"]))).outputs) == {"rows"}
    assert rig.infer.requests[0].outputs == ("rows",)


@pytest.mark.parametrize(
    ("spec", "answers"),
    [({}, 2), ({"version": version(0)}, 2), ({"version": version(1)}, 1), ({"version_label": "stable"}, 1)],
)
async def test_version_label_or_neither_choose_what_answers(rig: Rig, spec: Any, answers: int) -> None:
    reply = await rig.predict(request(**spec))
    assert rig.infer.requests[0].version == str(answers)
    found = reply.model_spec
    assert (found.name, found.version.value, found.signature_name) == ("m", answers, "serving_default")


async def test_a_label_that_was_moved_or_made_is_that_of_every_method_at_once(rig: Rig) -> None:
    for label in ("stable", "new"):
        rig.edge.catalog.move_label("m", label, "2")
        assert (await rig.predict(request(version_label=label))).model_spec.version.value == 2
        spec = pb.ModelSpec(name="m", version_label=label)
        (status,) = (await rig.status(pb.GetModelStatusRequest(model_spec=spec))).model_version_status
        assert status.version == 2
        asked = pb.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        assert (await rig.metadata(asked)).model_spec.version.value == 2


async def test_what_keeps_a_caller_on_a_side_is_sent_in_metadata(rig: Rig) -> None:
    await rig.predict(request(), metadata=(("x-inferway-sticky", "me"),))
    assert rig.infer.requests[0].sticky == "me"


async def test_variant_and_priority_are_asked_for_in_metadata_and_the_variant_told_there(rig: Rig) -> None:
    call = rig.predict(request(), metadata=(("x-inferway-variant", "int8"), ("x-request-priority", "2")))
    await call
    assert (rig.infer.requests[0].variant, rig.infer.requests[0].priority) == ("int8", 2)
    assert dict(await call.trailing_metadata())["x-inferway-variant"] == "int8"


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"name": "none"}, NOT_FOUND, "Servable not found for request: Latest(none)"),
        ({"version": version(7)}, NOT_FOUND, "Servable not found for request: Specific(m, 7)"),
        ({"version_label": "new"}, INVALID, "Unrecognized servable version label: new"),
        ({"name": ""}, INVALID, "ModelSpec has no name specified."),
        ({"signature_name": "other"}, INVALID, 'Serving signature name: "other" not found'),
        ({"x": proto(pb.DT_DOUBLE, [1, 2], double_val=[1.0])}, INVALID, "tensor 'x': expected datatype FP32"),
        ({"x": proto(pb.DT_FLOAT, [1, 3], float_val=[1.0])}, INVALID, "tensor 'x': expected shape [-1, 2]"),
        ({"x": proto(pb.DT_FLOAT, [1, 2], tensor_content=b"123")}, INVALID, "tensor 'x': expected 8 bytes"),
        ({"x": proto(pb.DT_FLOAT, [9, 2], float_val=[1.0])}, INVALID, "a batch of 1 to 8"),
        ({"x": proto(pb.DT_FLOAT, [10**9, 2], float_val=[1.0])}, INVALID, "a batch of 1 to 8"),
        ({"x": proto(pb.DT_FLOAT, [2**62] * 2000)}, INVALID, "expected shape [-1, 2], got 2000 dimensions"),
        ({"x": proto(pb.DT_COMPLEX64, [1, 2])}, INVALID, "got DT_COMPLEX64"),
        ({"more": {"z": proto(pb.DT_FLOAT, [1], float_val=[1.0])}}, INVALID, "tensor 'z'"),
        ({"outputs": ["none"]}, INVALID, "tensor 'none'"),
        ({"outputs": ["y", "y"]}, INVALID, "duplicate output tensor alias: y"),
    ],
)
async def test_a_bad_request_is_refused_without_an_inference(
    rig: Rig, change: Any, code: grpc.StatusCode, text: str
) -> None:
    got, said = await refused(rig.predict(request(**change)))
    assert got is code
    assert text in said
    assert rig.infer.requests == []


async def test_no_endpoint_left_is_unavailable_with_retry_after() -> None:
    async with Rig(Unavailable("no endpoint", retry_after_seconds=2.0)) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.predict(request())
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(raised.value.trailing_metadata())["retry-after"] == "2"


async def test_metadata_is_the_contract_under_the_official_type_name(rig: Rig) -> None:
    spec = pb.ModelSpec(name="m", version_label="stable")
    reply = await rig.metadata(pb.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"]))
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("m", 1)
    packed = reply.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = pb.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert signature.inputs["text"].dtype == pb.DT_STRING
    assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 2]
    assert set(signature.outputs) == {"y", "shout", "rows"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [([], "must specify at least one metadata_field"), (["x"], "field x is not supported")],
)
async def test_only_the_signature_is_metadata(rig: Rig, fields: list[str], text: str) -> None:
    asked = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="m"), metadata_field=fields)
    code, said = await refused(rig.metadata(asked))
    assert code is INVALID
    assert text in said


async def test_status_lists_every_version_the_newest_first(rig: Rig) -> None:
    reply = await rig.status(pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="m")))
    states = [(each.version, each.state, each.status.error_code) for each in reply.model_version_status]
    available = pb.ModelVersionStatus.AVAILABLE
    assert states == [(2, available, pb.StatusProto.OK), (1, available, pb.StatusProto.OK)]


async def test_status_of_what_is_not_there_is_not_found(rig: Rig) -> None:
    none = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="none"))
    assert await refused(rig.status(none)) == (NOT_FOUND, "Could not find any versions of model none")
    seventh = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="m", version=version(7)))
    assert await refused(rig.status(seventh)) == (NOT_FOUND, "Could not find version 7 of model m")
    assert await refused(rig.status(pb.GetModelStatusRequest())) == (INVALID, "Missing ModelSpec")


@pytest.mark.parametrize(
    "path",
    [
        f"{PREDICTION_SERVICE}/Classify",
        f"{PREDICTION_SERVICE}/Regress",
        f"{PREDICTION_SERVICE}/MultiInference",
        f"{MODEL_SERVICE}/HandleReloadConfigRequest",
    ],
)
async def test_what_is_not_served_is_unimplemented_and_says_so(rig: Rig, path: str) -> None:
    code, text = await refused(rig.call(path, request(), pb.PredictResponse))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Inferway" in text
