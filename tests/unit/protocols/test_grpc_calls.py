"""One gRPC call, over a real server and channel: statuses, deadlines, trailers, measurement."""

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator
from types import FrameType
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from gateway.catalog import Catalog
from gateway.errors import (
    BodyTooLarge,
    Code,
    DeadlineExceeded,
    InferwayError,
    InvalidRequest,
    InvalidTensor,
    ModelForbidden,
    ModelNotFound,
    Overloaded,
    QuotaExceeded,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from gateway.metrics import Metrics
from gateway.protocols.edge import Edge
from gateway.protocols.grpc_calls import Service
from gateway.protocols.grpc_methods import Context
from gateway.protocols.problems import GRPC_STATUS
from gateway.stages.measured import Measured, Measurement
from tests.fakes import FakeInfer, a_contract, settle
from tests.grpc_serving import GrpcServing

SERVICE = "inferway.test.Echo"
EXPECTED = [
    InvalidTensor("image", expected="FP32", got="INT8"),
    ModelNotFound("m"),
    Unauthenticated("no key"),
    ModelForbidden("not this model"),
    QuotaExceeded("too many", retry_after_seconds=2.5),
    BodyTooLarge(1),
    Unsupported("not served"),
    DeadlineExceeded("too late"),
    Unavailable("nobody is left", retry_after_seconds=2.5),
    InferwayError("an expected failure"),
]


class Rig:
    """A server with one service, whose methods echo the message or raise `failure`."""

    def __init__(self) -> None:
        self.failure: Exception | type[Exception] | None = None
        self.timeout_seconds: float | None = None
        self.calls = 0
        self.registry = CollectorRegistry()
        catalog = Catalog({"adder": a_contract()})
        edge = Edge(
            infer=FakeInfer(),
            catalog=catalog,
            is_ready=lambda _model, _version: True,
            measured=Measured(Metrics(self.registry), catalog),
            max_request_bytes=1000,
        )
        self.service = Service(edge, SERVICE, "test_grpc")
        self.service.unary("Infer", StringValue, self._echo, measures=True)
        self.service.unary("Look", StringValue, self._echo)
        self.service.stream("Stream", StringValue, self._stream)
        self.came = asyncio.Event()
        self.left = asyncio.Event()
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def _echo(self, message: Any, measurement: Measurement, context: Context) -> Any:
        measurement.asks("adder", "2")
        self.timeout_seconds = context.time_left()
        self.calls += 1
        self.came.set()
        try:
            await self.is_open.wait()
        finally:
            self.left.set()
        if self.failure is not None:
            raise self.failure
        return StringValue(value=message.value)

    async def _stream(self, messages: AsyncIterator[Any], _: Context) -> AsyncGenerator[Any, None]:
        async for message in messages:
            if self.failure is not None:
                raise self.failure
            yield message

    async def call(self, method: str = "Infer", text: str = "hello", timeout: float | None = None) -> str:  # noqa: ASYNC109 - gRPC's own
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        reply: StringValue = await call(StringValue(value=text), timeout=timeout)
        return reply.value

    async def refusal(self, method: str = "Infer") -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method)
        return caught.value

    def counted(self) -> dict[tuple[str, str], float]:
        """Count by version and outcome."""
        return {
            (sample.labels["version"], sample.labels["outcome"]): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "gateway_request_duration_seconds_count"
        }

    async def start(self) -> None:
        self.server = await GrpcServing(self.service.methods).start()
        self.address = self.server.address
        self.channel = grpc.aio.insecure_channel(self.address)

    async def stop(self) -> None:
        await self.channel.close()
        await self.server.stop()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    started = Rig()
    await started.start()
    yield started
    await started.stop()


async def test_a_method_answers_under_its_services_name(rig: Rig) -> None:
    assert await rig.call(text="7") == "7"
    assert rig.counted() == {("2", "ok"): 1}


@pytest.mark.parametrize("failure", EXPECTED, ids=[error.code.value for error in EXPECTED])
async def test_an_expected_failure_is_its_status_its_words_and_its_outcome(
    rig: Rig, failure: InferwayError
) -> None:
    rig.failure = failure
    error = await rig.refusal()
    assert (error.code(), error.details()) == (GRPC_STATUS[failure.code], str(failure))
    assert rig.counted() == {("2", failure.code.value): 1}


def test_the_failures_that_were_tried_have_every_code() -> None:
    assert {error.code for error in EXPECTED} == set(Code)


async def test_unavailable_says_in_the_trailers_when_to_come_back(rig: Rig) -> None:
    rig.failure = Unavailable("nobody is left", retry_after_seconds=2.5)
    trailers = (await rig.refusal()).trailing_metadata()
    assert ("retry-after", "3") in [(key, value) for key, value in trailers or ()]


async def test_what_was_not_expected_is_internal_and_tells_nothing(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.failure = ZeroDivisionError("password is hunter2")
    error = await rig.refusal()
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert rig.counted() == {("2", "internal"): 1}
    assert "request_failed" in capsys.readouterr().out


async def test_what_does_not_infer_is_not_measured_and_fails_alike(rig: Rig) -> None:
    assert await rig.call("Look") == "hello"
    rig.failure = ModelNotFound("m")
    assert (await rig.refusal("Look")).code() is grpc.StatusCode.NOT_FOUND
    assert rig.counted() == {}


async def test_a_method_that_is_not_there_is_unimplemented(rig: Rig) -> None:
    assert (await rig.refusal("Train")).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_caller_that_leaves_is_counted_as_cancelled(rig: Rig) -> None:
    rig.is_open.clear()
    call = asyncio.create_task(rig.call())
    await rig.came.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await rig.left.wait()
    await settle()
    assert rig.counted() == {("2", "cancelled"): 1}


async def test_the_callers_deadline_is_known(rig: Rig) -> None:
    await rig.call(timeout=60)
    assert rig.timeout_seconds is not None
    assert 0 < rig.timeout_seconds < 61  # on the wire a timeout is rounded up to a few digits


async def test_without_a_deadline_there_is_no_timeout(rig: Rig) -> None:
    await rig.call()
    assert rig.timeout_seconds is None


@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
async def test_what_is_no_message_is_the_callers_fault(rig: Rig, kind: str) -> None:
    method: Any = getattr(rig.channel, kind)(f"/{SERVICE}/{'Infer' if kind == 'unary_unary' else 'Stream'}")
    call = method(b"\xff" if kind == "unary_unary" else iter([b"\xff"]))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the message is no StringValue" in await call.details()


async def test_a_refused_message_is_gone_with_its_call(rig: Rig) -> None:
    rig.failure = InvalidRequest
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await rig.refusal()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        frames = [found for found in gc.garbage if isinstance(found, FrameType)]
        kept = [frame for frame in frames if frame.f_code is Rig._echo.__code__]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kept == []


async def test_a_stream_answers_each_message_and_ends_with_a_failures_status(rig: Rig) -> None:
    call = rig.channel.stream_stream(
        f"/{SERVICE}/Stream",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )()
    await call.write(StringValue(value="a"))
    first: Any = await call.read()
    assert first.value == "a"
    rig.failure = ModelNotFound("m")
    await call.write(StringValue(value="b"))
    with pytest.raises(grpc.aio.AioRpcError, match="model 'm' is not found"):
        await call.read()
    assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_a_client_that_tries_again_by_itself_waits_as_long_as_the_shed_call_says(rig: Rig) -> None:
    rig.failure = Overloaded("busy", retry_after_seconds=2.5)
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with grpc.aio.insecure_channel(rig.address, options=[("grpc.service_config", config)]) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Infer")
        with pytest.raises(grpc.aio.AioRpcError):
            await call(StringValue(value="x").SerializeToString(), timeout=0.5)
    assert rig.calls == 1  # its own back-off would have made five of it by then
