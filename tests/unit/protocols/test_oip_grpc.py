"""OIP gRPC, against the specification and what Triton 2.51 was seen to do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.errors import EndpointFailed, Unavailable
from gateway.inference import Tensor
from gateway.protocols.edge import Edge
from gateway.protocols.oip_grpc import UNSUPPORTED
from services.protocol import open_inference_pb2 as oip
from tests.fakes import FakeClock, FakeInfer, fake_edge
from tests.unit.protocols.oip_grpc_rig import DIGITS, Rig, image, outputs, typed


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


async def test_raw_in_and_raw_out(rig: Rig) -> None:
    reply = await rig.infer(image(rows=2, id="mine"))
    assert (reply.model_name, reply.model_version, reply.id) == ("digits", "1", "mine")
    assert [(o.name, o.datatype, list(o.shape)) for o in reply.outputs] == [
        ("scores", "FP32", [2, 3]),
        ("sum", "FP32", [2, 1]),
    ]
    assert np.frombuffer(reply.raw_output_contents[0], "<f4").tolist() == [0.25, 3.5, 1.0] * 2
    (asked,) = rig.infer_stage.requests
    assert (asked.model, asked.version, asked.variant, asked.id) == ("digits", "1", "fp32", "mine")
    assert asked.inputs[0].numpy().ravel().tolist() == list(range(8))


async def test_a_reply_names_what_answered_it(rig: Rig) -> None:
    reply = await rig.infer(image())
    facts = {name: value.string_param for name, value in reply.parameters.items()}
    assert facts == {
        "x-inferway-backend": "fake",
        "x-inferway-cache": "off",
        "x-inferway-variant": "fp32",
        "x-inferway-version": "1",
    }


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-32768, 32767]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, float("inf")]),
        ("FP64", "fp64_contents", [0.1, -1e300]),
    ],
)
async def test_typed_contents_of_every_datatype_are_answered_raw(
    rig: Rig, datatype: str, field: str, values: list[Any]
) -> None:
    reply = await rig.infer(typed(datatype, field, values))
    (output,) = reply.outputs
    assert not output.HasField("contents")
    tensor = Tensor("y", output.datatype, tuple(output.shape), reply.raw_output_contents[0])
    assert tensor.numpy().tolist() == [values]


async def test_typed_bytes_are_answered_with_their_lengths(rig: Rig) -> None:
    reply = await rig.infer(typed("BYTES", "bytes_contents", [b"ab", b""]))
    assert reply.raw_output_contents[0] == b"\x02\0\0\0ab\0\0\0\0"


async def test_only_the_outputs_asked_for_are_computed(rig: Rig) -> None:
    message = image()
    for name in ("sum", "sum"):
        message.outputs.add(name=name)
    reply = await rig.infer(message)
    assert [output.name for output in reply.outputs] == ["sum"]
    assert rig.infer_stage.requests[0].outputs == ("sum",)


async def test_an_output_may_be_wanted_as_classes(rig: Rig) -> None:
    message = image()
    message.outputs.add(name="scores").parameters["classification"].int64_param = 2
    reply = await rig.infer(message)
    (output,) = reply.outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [1, 2])
    assert reply.raw_output_contents[0] == b"\x0e\0\0\x003.500000:1:one\x0e\0\0\x001.000000:2:two"


async def test_the_gateways_parameters_stay_with_it_and_the_others_go_on(rig: Rig) -> None:
    message = image()
    for name, value in (("variant", "int8"), ("mode", "fast")):
        message.parameters[name].string_param = value
    for name in ("timeout", "priority", "seed"):
        message.parameters[name].int64_param = 5_000_000
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    await rig.infer(message)
    (asked,) = rig.infer_stage.requests
    assert asked.variant == "int8"
    assert dict(asked.parameters) == {"mode": "fast", "seed": 5_000_000}


@pytest.mark.parametrize(
    ("microseconds", "call_seconds", "expected"), [(0, None, 10), (2_500_000, None, 2.5), (20_000_000, 4, 4)]
)
async def test_the_deadline_is_the_callers_sooner_one_or_the_models(
    microseconds: int, call_seconds: float | None, expected: float
) -> None:
    clock = FakeClock()
    async with Rig(clock=clock) as rig:
        message = image()
        message.parameters["timeout"].int64_param = microseconds
        await rig.infer(message, timeout=call_seconds)
    (asked,) = rig.infer_stage.requests
    assert asked.deadline - clock.now == pytest.approx(expected, abs=0.5)


def no_raw(message: oip.ModelInferRequest) -> None:
    del message.raw_input_contents[:]


def two_raw(message: oip.ModelInferRequest) -> None:
    message.raw_input_contents.append(b"")


def both(message: oip.ModelInferRequest) -> None:
    message.inputs[0].contents.fp32_contents.append(1)


def short(message: oip.ModelInferRequest) -> None:
    message.raw_input_contents[0] = b"123"


def shape(message: oip.ModelInferRequest) -> None:
    message.inputs[0].shape[1] = 3


def batch(message: oip.ModelInferRequest) -> None:
    message.inputs[0].shape[0] = 9


def negative(message: oip.ModelInferRequest) -> None:
    message.inputs[0].shape[0] = -1


def datatype(message: oip.ModelInferRequest) -> None:
    message.inputs[0].datatype = "INT32"


def name(message: oip.ModelInferRequest) -> None:
    message.inputs[0].name = "picture"


def twice(message: oip.ModelInferRequest) -> None:
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])


def output(message: oip.ModelInferRequest) -> None:
    message.outputs.add(name="shoe size")


def no_classes(message: oip.ModelInferRequest) -> None:
    message.outputs.add(name="scores").parameters["classification"].int64_param = 0


def text_classes(message: oip.ModelInferRequest) -> None:
    message.outputs.add(name="scores").parameters["classification"].string_param = "2"


def text_timeout(message: oip.ModelInferRequest) -> None:
    message.parameters["timeout"].string_param = "soon"


def negative_timeout(message: oip.ModelInferRequest) -> None:
    message.parameters["timeout"].int64_param = -1


def reserved(message: oip.ModelInferRequest) -> None:
    message.parameters["triton_x"].bool_param = True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            no_raw,
            "tensor 'image': expected 4 elements in 'fp32_contents' for shape [1, 2, 2], got 0 elements",
        ),
        (two_raw, "raw_input_contents: expected one for each of the inputs ['image'], got 2"),
        (both, "tensor 'image': expected raw or typed contents, got both"),
        (short, "tensor 'image': expected 16 bytes for FP32 [1, 2, 2], got 3 bytes"),
        (shape, "tensor 'image': expected shape [-1, 2, 2], got shape [1, 3, 2]"),
        (batch, "tensor 'image': expected a batch of 1 to 8, got a batch of 9"),
        (negative, "tensor 'image': expected shape [-1, 2, 2], got shape [-1, 2, 2]"),
        (datatype, "tensor 'image': expected datatype FP32, got INT32"),
        (name, "tensor 'picture': expected the inputs ['image'], got an unknown input"),
        (twice, "tensor 'image': expected each input once, got it twice"),
        (output, "tensor 'shoe size': expected the outputs ['scores', 'sum'], got an unknown output"),
        (no_classes, "output 'scores': 'classification': expected a positive int64_param"),
        (text_classes, "output 'scores': 'classification': expected a positive int64_param"),
        (text_timeout, "parameter 'timeout': expected microseconds as a non-negative integer, got 'soon'"),
        (negative_timeout, "parameter 'timeout': expected microseconds as a non-negative integer, got -1"),
        (reserved, "parameter 'triton_x': expected another name, since 'triton_' is reserved"),
    ],
)
async def test_what_does_not_fit_is_an_invalid_argument_and_reaches_no_backend(
    rig: Rig, change: Any, says: str
) -> None:
    message = image()
    change(message)
    assert await rig.fails(message) == ("INVALID_ARGUMENT", says)
    assert rig.infer_stage.requests == []


def many_dimensions() -> oip.ModelInferRequest:
    """A shape of a few bytes whose number of elements would take minutes to work out."""
    message = typed("INT8", "int_contents", [1])
    message.inputs[0].shape[:] = [2**62] * 2000
    return message


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (typed("INT8", "int_contents", [128]), "tensor 'x': expected numbers that fit INT8"),
        (
            typed("INT8", "int64_contents", [1]),
            "expected INT8 in 'int_contents' alone, got ['int64_contents']",
        ),
        (typed("FP16", "fp32_contents", [1]), "tensor 'x': expected a datatype of typed contents"),
        (many_dimensions(), "tensor 'x': expected shape [-1, -1], got 2000 dimensions"),
        (typed("BYTES", "bytes_contents", [b"a"], size=2), "expected 2 elements in 'bytes_contents'"),
    ],
)
async def test_typed_contents_that_do_not_fit_are_an_invalid_argument(
    rig: Rig, message: oip.ModelInferRequest, says: str
) -> None:
    code, text = await rig.fails(message)
    assert code == "INVALID_ARGUMENT"
    assert says in text


async def test_the_variant_may_be_asked_for_in_metadata_and_a_parameter_comes_first(rig: Rig) -> None:
    asked = (("x-inferway-variant", "int8"),)
    await rig.infer(image(), metadata=asked)
    message = image()
    message.parameters["variant"].string_param = "fp32"
    await rig.infer(message, metadata=asked)
    assert [request.variant for request in rig.infer_stage.requests] == ["int8", "fp32"]


async def test_the_priority_may_be_asked_for_in_metadata_and_a_parameter_comes_first(rig: Rig) -> None:
    asked = (("x-request-priority", "2"),)
    await rig.infer(image())
    await rig.infer(image(), metadata=asked)
    message = image()
    message.parameters["priority"].int64_param = 1
    await rig.infer(message, metadata=asked)
    assert [request.priority for request in rig.infer_stage.requests] == [0, 2, 1]


async def test_typed_contents_without_a_value_may_stand_beside_raw_ones(rig: Rig) -> None:
    message = image()
    message.inputs[0].contents.SetInParent()  # as MLServer's converter leaves them
    assert len((await rig.infer(message)).raw_output_contents) == 2


async def test_unknown_model_version_and_variant_are_not_found(rig: Rig) -> None:
    message = image()
    message.model_name = "nope"
    assert await rig.fails(message) == ("NOT_FOUND", "model 'nope' is not found")
    assert (await rig.fails(image(model_version="9")))[0] == "NOT_FOUND"
    assert (await rig.fails(image(model_version="x")))[0] == "NOT_FOUND"
    message = image()
    message.parameters["variant"].string_param = "tiny"
    assert (await rig.fails(message))[0] == "NOT_FOUND"


async def test_shared_memory_and_model_control_are_unimplemented(rig: Rig) -> None:
    for place in ("inputs", "outputs"):
        message = image()
        message.outputs.add(name="scores")
        getattr(message, place)[0].parameters["shared_memory_region"].string_param = "region"
        assert (await rig.fails(message))[0] == "UNIMPLEMENTED"
    for method in UNSUPPORTED:
        with pytest.raises(grpc.aio.AioRpcError, match="Inferway has no shared memory") as raised:
            await rig.call(method, image(), oip.ModelInferResponse)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_no_endpoint_left_is_unavailable_with_a_time_to_come_back() -> None:
    async with Rig(Unavailable("none left", retry_after_seconds=2.1), EndpointFailed("it broke")) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.infer(image())
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ("retry-after", "3") in tuple(raised.value.trailing_metadata() or ())
        assert await rig.fails(image()) == ("UNAVAILABLE", "it broke")


async def test_a_fault_of_the_gateway_tells_nothing_of_itself() -> None:
    async with Rig(RuntimeError("secret")) as rig:
        assert await rig.fails(image()) == ("INTERNAL", "internal error")


async def test_a_stream_answers_in_order_and_survives_a_bad_request(rig: Rig) -> None:
    bad = image(id="2")
    bad.raw_input_contents[0] = b"123"

    async def messages() -> AsyncIterator[oip.ModelInferRequest]:
        for message in (image(id="1"), bad, image(id="3")):
            yield message

    replies = [reply async for reply in rig.stream(messages())]
    assert [reply.infer_response.id for reply in replies] == ["1", "2", "3"]
    assert [bool(reply.error_message) for reply in replies] == [False, True, False]
    assert "expected 16 bytes" in replies[1].error_message
    assert replies[0].infer_response.parameters["triton_final_response"].bool_param


async def test_a_streams_requests_run_at_the_same_time(rig: Rig) -> None:
    rig.infer_stage.is_open.clear()

    async def messages() -> AsyncIterator[oip.ModelInferRequest]:
        for place in range(100):
            yield image(id=str(place))

    async def replies_to(call: Any) -> list[Any]:
        return [reply async for reply in call]

    waiting = asyncio.ensure_future(replies_to(rig.stream(messages())))
    while len(rig.infer_stage.requests) < 64:  # noqa: ASYNC110 - a fake needs no better way
        await asyncio.sleep(0.01)
    rig.infer_stage.is_open.set()
    replies = await waiting
    assert [reply.infer_response.id for reply in replies] == [str(place) for place in range(100)]


async def test_a_stream_that_is_cancelled_cancels_its_requests(rig: Rig) -> None:
    rig.infer_stage.is_open.clear()

    async def messages() -> AsyncIterator[oip.ModelInferRequest]:
        for _ in range(5):
            yield image()
        await asyncio.sleep(60)

    call = rig.stream(messages())
    while len(rig.infer_stage.requests) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    call.cancel()
    while rig.infer_stage.cancelled < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_gateway_that_stops_ends_a_stream_once_what_was_read_is_answered(rig: Rig) -> None:
    rig.infer_stage.is_open.clear()
    stopped = asyncio.Event()

    async def messages() -> AsyncIterator[oip.ModelInferRequest]:
        for place in range(3):
            yield image(id=str(place))
        await stopped.wait()

    async def replies_to(call: Any) -> list[Any]:
        return [reply async for reply in call]

    waiting = asyncio.ensure_future(replies_to(rig.stream(messages())))
    while len(rig.infer_stage.requests) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    rig.edge.closing.set()
    rig.infer_stage.is_open.set()
    replies = await asyncio.wait_for(waiting, 5)
    stopped.set()
    assert [reply.infer_response.id for reply in replies] == ["0", "1", "2"]


async def test_each_request_of_a_stream_meets_the_configuration_of_its_time() -> None:
    newer = fake_edge(FakeInfer(outputs), DIGITS)
    edges: list[Edge] = []

    async with Rig(newest=lambda: edges[-1]) as rig:
        edges.append(rig.edge)

        async def messages() -> AsyncIterator[oip.ModelInferRequest]:
            yield image(id="old")
            while not rig.infer_stage.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            edges.append(newer)
            yield image(id="new")

        replies = [reply async for reply in rig.stream(messages())]
        assert [reply.infer_response.id for reply in replies] == ["old", "new"]
        assert len(rig.infer_stage.requests) == 1


async def test_who_watches_health_is_let_go_when_the_gateway_stops(rig: Rig) -> None:
    watch: Any = rig.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    call = watch(HealthCheckRequest())
    assert (await call.read()).status == HealthCheckResponse.SERVING
    rig.edge.leaving.set()
    assert (await call.read()).status == HealthCheckResponse.NOT_SERVING
    rig.edge.closing.set()
    assert await asyncio.wait_for(call.read(), 5) == grpc.aio.EOF


async def test_health_says_what_ready_says() -> None:
    for ready, status in ((True, "SERVING"), (False, "NOT_SERVING")):
        async with Rig(ready=ready) as rig:
            reply = await rig.call("ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse)
            assert reply.ready is ready
            for service in ("", "inference.GRPCInferenceService"):
                assert await check(rig, service) == status
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await check(rig, "nope")
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def check(rig: Rig, service: str) -> str:
    stub: Any = rig.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    reply = await stub(health_pb2.HealthCheckRequest(service=service))
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    return status


async def test_a_health_message_that_is_none_is_the_callers_fault_and_no_trouble_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Rig() as rig:
        kinds: Any = ((rig.channel.unary_unary, "Check"), (rig.channel.unary_stream, "Watch"))
        for kind, method in kinds:
            call = kind(f"/grpc.health.v1.Health/{method}")(b"\xff")
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caplog.records == []


async def test_health_of_everything_is_listed() -> None:
    pb: Any = health_pb2  # newer than its type stubs
    async with Rig() as rig:
        stub: Any = rig.channel.unary_unary(
            "/grpc.health.v1.Health/List",
            request_serializer=pb.HealthListRequest.SerializeToString,
            response_deserializer=pb.HealthListResponse.FromString,
        )
        statuses = (await stub(pb.HealthListRequest())).statuses
    assert {"", "inference.GRPCInferenceService"} <= set(statuses)
    assert {each.status for each in statuses.values()} == {health_pb2.HealthCheckResponse.SERVING}


async def test_who_watches_health_sees_it_change() -> None:
    is_up = [True]
    async with Rig() as rig:
        object.__setattr__(rig.edge, "is_ready", lambda _model, _version: is_up[0])
        stub: Any = rig.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        call = stub(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        is_up[0] = False
        assert (await call.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        call.cancel()
