"""The TF Serving backend against a fake server in the same process."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from gateway.backends import CannotServe
from gateway.backends.grpc_channel import DEADLINE_GRACE_SECONDS
from gateway.backends.tfserving import TFServing
from gateway.errors import (
    BadReply,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    InferwayError,
    ModelFailed,
    RejectedByBackend,
)
from gateway.inference import Tensor
from services.launch import free_port
from services.protocol.tfserving_pb2 import (
    DT_COMPLEX64,
    DT_FLOAT,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
    TensorInfo,
)
from tests.unit.backends.tfserving_rig import (
    CONTRACT,
    COUNT,
    REQUEST,
    SUM,
    VALUES,
    FakeServer,
    a_signature,
    an_info,
    answering,
    failing,
)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    running = grpc.aio.server()
    running.add_generic_rpc_handlers(fake.handlers())
    fake.address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    await running.start()
    yield fake
    await running.stop(None)


@pytest_asyncio.fixture
async def backend(server: FakeServer) -> AsyncIterator[TFServing]:
    made = TFServing(server.address, contracts={"adder": CONTRACT}, max_request_bytes=1024 * 1024)
    yield made
    await made.aclose()


async def test_inputs_go_as_raw_content_and_strings_one_by_one(
    server: FakeServer, backend: TFServing
) -> None:
    await backend(REQUEST)
    (sent,) = server.requests
    assert sent.inputs["values"].tensor_content == bytes(VALUES.data)
    assert sent.inputs["values"].dtype == DT_FLOAT
    assert [dim.size for dim in sent.inputs["values"].tensor_shape.dim] == [2, 2]
    assert list(sent.inputs["text"].string_val) == [b"one", b""]


async def test_the_concrete_version_of_the_variant_is_asked_for(
    server: FakeServer, backend: TFServing
) -> None:
    await backend(REQUEST)
    await backend(replace(REQUEST, variant="int8"))
    specs = [sent.model_spec for sent in server.requests]
    assert [(spec.name, spec.version.value) for spec in specs] == [("adder", 1), ("adder-int8", 1)]


@pytest.mark.parametrize("typed", [True, False])
async def test_typed_and_raw_answers_are_the_same(
    server: FakeServer, backend: TFServing, typed: bool
) -> None:
    server.answer = answering(SUM, COUNT, typed=typed)
    response = await backend(REQUEST)
    assert response.outputs == (SUM, COUNT)
    assert (response.version, response.variant, response.backend) == ("1", "fp32", "tfserving")


async def test_outputs_come_in_the_order_asked_for(server: FakeServer, backend: TFServing) -> None:
    response = await backend(replace(REQUEST, outputs=("count", "sum")))
    assert response.outputs == (COUNT, SUM)
    assert list(server.requests[0].output_filter) == ["count", "sum"]


async def test_outputs_not_asked_for_are_not_answered(backend: TFServing) -> None:
    assert (await backend(replace(REQUEST, outputs=("count",)))).outputs == (COUNT,)


async def test_outputs_that_the_contract_does_not_have_are_dropped(
    server: FakeServer, backend: TFServing
) -> None:
    server.answer = answering(SUM, COUNT, Tensor.of("logits", "FP32", np.zeros((2, 4))))
    assert (await backend(REQUEST)).outputs == (SUM, COUNT)


async def test_a_typed_value_that_stands_alone_repeats(server: FakeServer, backend: TFServing) -> None:
    async def answer(request: PredictRequest, context: Any) -> PredictResponse:
        reply = await answering(SUM, COUNT)(request, context)
        del reply.outputs["sum"].float_val[1:]
        return reply

    server.answer = answer
    response = await backend(REQUEST)
    assert response.outputs[0].numpy().tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ((SUM,), "expected outputs"),
        ((Tensor.of("sum", "FP64", np.zeros((2, 1))), COUNT), "FP64"),
        ((Tensor.of("sum", "FP32", np.zeros((1, 1))), COUNT), r"FP32 \[1, 1\]"),
        ((Tensor("sum", "FP32", (2, 1), b"\0" * 4), COUNT), "4 bytes"),
        ((Tensor("sum", "FP32", (2, 1), b""), COUNT), "0 values"),
        ((Tensor("sum", "FP32", (-1, 1), b""), COUNT), "every dimension known"),
    ],
)
async def test_a_reply_that_does_not_fit_the_contract_is_a_bad_reply(
    server: FakeServer, backend: TFServing, tensors: tuple[Tensor, ...], said: str
) -> None:
    server.answer = answering(*tensors, typed=False)
    with pytest.raises(BadReply, match=said):
        await backend(REQUEST)


async def test_a_reply_of_another_version_is_a_bad_reply(server: FakeServer, backend: TFServing) -> None:
    server.answer = answering(SUM, COUNT, version=2)
    with pytest.raises(BadReply, match="version 2"):
        await backend(REQUEST)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "Expects arg[0] to be float", RejectedByBackend),
        (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(x)", EndpointFailed),
        (grpc.StatusCode.FAILED_PRECONDITION, "Serving signature key not found.", EndpointFailed),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "The batch scheduling queue is full", EndpointBusy),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)", EndpointFailed),
        (grpc.StatusCode.UNAVAILABLE, "Servable is unloading", EndpointFailed),
        (grpc.StatusCode.INTERNAL, "broken", ModelFailed),
    ],
)
async def test_each_status_blames_whom_it_should(
    server: FakeServer,
    backend: TFServing,
    code: grpc.StatusCode,
    text: str,
    expected: type[InferwayError],
) -> None:
    server.answer = failing(code, text)
    with pytest.raises(expected) as raised:
        await backend(REQUEST)
    assert type(raised.value) is expected
    assert text in str(raised.value)


async def test_a_server_that_says_the_deadline_has_passed_is_told_as_a_timeout(
    server: FakeServer, backend: TFServing
) -> None:
    server.answer = failing(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
    with pytest.raises(TimeoutError):
        await backend(REQUEST)


@pytest.mark.parametrize("seconds", [30.0, -1.0, math.inf])
async def test_the_server_is_told_the_time_left_and_a_little_more(
    server: FakeServer, backend: TFServing, seconds: float
) -> None:
    left: list[float | None] = []

    async def tell(_: PredictRequest, context: Any) -> PredictResponse:
        left.append(context.time_remaining())
        return await answering(SUM, COUNT)(_, context)

    server.answer = tell
    await backend(replace(REQUEST, deadline=time.monotonic() + seconds))
    expected = max(0.0, seconds) + DEADLINE_GRACE_SECONDS
    assert (left[0] or math.inf) == pytest.approx(expected, rel=0.5)


async def test_a_port_that_nobody_listens_on_is_unreachable() -> None:
    backend = TFServing(f"127.0.0.1:{free_port()}", contracts={"adder": CONTRACT}, max_request_bytes=1024)
    with pytest.raises(EndpointUnreachable):
        await backend(REQUEST)
    assert not await backend.is_ready("adder", "1", "fp32")
    await backend.aclose()


async def test_a_cancelled_call_leaves_the_backend_usable(server: FakeServer, backend: TFServing) -> None:
    good = server.answer

    async def hang(request: PredictRequest, context: Any) -> PredictResponse:
        await asyncio.sleep(60)
        return await good(request, context)

    server.answer = hang
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await backend(REQUEST)
    server.answer = good
    assert (await backend(REQUEST)).outputs == (SUM, COUNT)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (an_info(DT_FLOAT, -1, 2), r"it is FP32 \[-1, 2\] here"),
        (an_info(DT_COMPLEX64, -1, 1), r"it is DT_COMPLEX64 \[-1, 1\] here"),
        (an_info(101, -1, 1), r"it is datatype 101 \[-1, 1\] here"),
    ],
)
async def test_a_model_of_other_tensors_than_the_contracts_is_never_ready(
    server: FakeServer, backend: TFServing, output: TensorInfo, says: str
) -> None:
    server.signatures["serving_default"] = a_signature(sum=output)
    for _ in range(2):
        with pytest.raises(
            CannotServe,
            match=rf"^TF Serving at 127.0.0.1:\d+, model 'adder' version 1: output 'sum': {says}"
            r", and FP32 \[-1, 1\] \(max_batch_size 8\) in model.yaml$",
        ):
            await backend.is_ready("adder", "1", "fp32")
    server.signatures["serving_default"] = a_signature()
    assert await backend.is_ready("adder", "1", "fp32")


async def test_a_model_without_the_signature_that_is_asked_for_is_never_ready(
    server: FakeServer, backend: TFServing
) -> None:
    server.signatures = {"predict": a_signature(), "classify": a_signature()}
    with pytest.raises(CannotServe, match="no signature 'serving_default'; known there: classify, predict"):
        await backend.is_ready("adder", "1", "fp32")


async def test_a_shape_that_the_signature_leaves_open_and_any_batch_fit(
    server: FakeServer, backend: TFServing
) -> None:
    info = TensorInfo(dtype=DT_FLOAT)
    info.tensor_shape.unknown_rank = True
    for fits in (info, an_info(DT_FLOAT, 1, 1), an_info(DT_FLOAT, 1, -1)):
        server.signatures["serving_default"] = a_signature(sum=fits, more=an_info(DT_FLOAT, 7))
        assert await backend.is_ready("adder", "1", "fp32")
        backend._fitting.clear()


async def test_a_model_that_fits_is_asked_for_its_signature_again_once_it_was_gone(
    server: FakeServer, backend: TFServing
) -> None:
    assert [await backend.is_ready("adder", "1", "fp32") for _ in range(2)] == [True, True]
    (asked,) = server.asked_for_metadata
    assert (asked.model_spec.name, asked.model_spec.version.value) == ("adder", 1)
    assert [*asked.metadata_field] == ["signature_def"]
    server.state = ModelVersionStatus.LOADING
    assert not await backend.is_ready("adder", "1", "fp32")
    server.state = ModelVersionStatus.AVAILABLE
    assert await backend.is_ready("adder", "1", "fp32")
    assert len(server.asked_for_metadata) == 2


@pytest.mark.parametrize(
    ("failure", "is_ready"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, True),
        (grpc.StatusCode.INVALID_ARGUMENT, True),
        (grpc.StatusCode.UNAVAILABLE, False),
        (None, True),
    ],
)
async def test_a_server_that_does_not_tell_of_signatures_is_ready_without(
    server: FakeServer, backend: TFServing, failure: grpc.StatusCode | None, is_ready: bool
) -> None:
    server.metadata_failure = failure
    server.signatures = {}
    assert await backend.is_ready("adder", "1", "fp32") is is_ready


async def test_a_model_that_the_server_does_not_have_is_not_ready(backend: TFServing) -> None:
    assert not await backend.is_ready("adder", "1", "int8")
