"""The Triton backend against a Triton of a few lines, which says what the real one was heard to say."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from gateway.backends import CannotServe
from gateway.backends.open_inference import OpenInference
from gateway.contract import Contract
from gateway.errors import (
    BadReply,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    InferwayError,
    ModelFailed,
    RejectedByBackend,
)
from gateway.inference import InferRequest, Tensor
from services.launch import free_port
from services.protocol import open_inference_pb2 as oip
from tests.fakes import a_version, until

CONTRACT = Contract.model_validate(
    {
        "name": "double",
        "max_batch_size": 4,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2]},
            {"name": "sum", "datatype": "FP32", "shape": [1]},
        ],
        "default_version": "3",
        "versions": {"3": a_version("fp32", "int8")},
    }
)
DEAD = (grpc.StatusCode.INTERNAL, "Stub process 'double_0_0' is not healthy.")


def _metadata(**outputs: str) -> oip.ModelMetadataResponse:
    """What Triton says of a model like the contract's; `outputs` are other datatypes of those."""
    told = oip.ModelMetadataResponse(name="double", versions=["3"])
    told.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
    for name, size in (("sum", 1), ("y", 2)):
        told.outputs.add(name=name, datatype=outputs.get(name, "FP32"), shape=[-1, size])
    return told


class FakeTriton:
    """Doubles `x`; says anything else on demand."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answered = 0
        self.asked = oip.ModelInferRequest()
        self.error: tuple[grpc.StatusCode, str] | None = None
        self.change: Callable[[oip.ModelInferResponse], None] = lambda _reply: None
        self.ready = True
        self.metadata: oip.ModelMetadataResponse | None = _metadata()
        self.config = oip.ModelConfig(max_batch_size=4)
        self.can_load = True
        self.hangs = asyncio.Event()
        self.hangs.set()

    async def infer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:
        self.calls.append("infer")
        self.asked = request
        await self.hangs.wait()
        if self.error:
            await context.abort(*self.error)
        x = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(tuple(request.inputs[0].shape))
        reply = oip.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        for name, values in (("sum", x.sum(axis=1, keepdims=True)), ("y", x * 2)):
            if not request.outputs or name in {output.name for output in request.outputs}:
                reply.outputs.add(name=name, datatype="FP32", shape=values.shape)
                reply.raw_output_contents.append(values.astype("<f4").tobytes())
        self.change(reply)
        self.answered += 1
        return reply

    async def model_ready(self, request: oip.ModelReadyRequest, _: Any) -> oip.ModelReadyResponse:
        self.calls.append(f"ready {request.name} {request.version}")
        await self.hangs.wait()
        return oip.ModelReadyResponse(ready=self.ready)

    async def model_metadata(self, request: oip.ModelMetadataRequest, context: Any) -> Any:
        self.calls.append(f"metadata {request.name} {request.version}")
        if self.metadata is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        return self.metadata

    async def model_config(self, _: oip.ModelConfigRequest, __: Any) -> oip.ModelConfigResponse:
        return oip.ModelConfigResponse(config=self.config)

    async def load(
        self, request: oip.RepositoryModelLoadRequest, context: Any
    ) -> oip.RepositoryModelLoadResponse:
        self.calls.append(f"load {request.model_name}")
        await asyncio.sleep(0.05)
        if not self.can_load:
            await context.abort(grpc.StatusCode.INTERNAL, "no")
        return oip.RepositoryModelLoadResponse()

    async def unload(
        self, request: oip.RepositoryModelUnloadRequest, _: Any
    ) -> oip.RepositoryModelUnloadResponse:
        self.calls.append(f"unload {request.model_name}")
        return oip.RepositoryModelUnloadResponse()

    async def called(self, call: str) -> None:
        while call not in self.calls:  # noqa: ASYNC110 - a fake needs no better way
            await asyncio.sleep(0.01)

    def handler(self) -> grpc.GenericRpcHandler:
        def unary(method: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=request.FromString,
                response_serializer=lambda reply: reply.SerializeToString(),
            )

        methods = {
            "ModelInfer": unary(self.infer, oip.ModelInferRequest),
            "ModelReady": unary(self.model_ready, oip.ModelReadyRequest),
            "ModelConfig": unary(self.model_config, oip.ModelConfigRequest),
            "ModelMetadata": unary(self.model_metadata, oip.ModelMetadataRequest),
            "RepositoryModelLoad": unary(self.load, oip.RepositoryModelLoadRequest),
            "RepositoryModelUnload": unary(self.unload, oip.RepositoryModelUnloadRequest),
        }
        return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[FakeTriton, OpenInference, grpc.aio.Server]]:
    triton = FakeTriton()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((triton.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    backend = backend_at(port)
    yield triton, backend, server
    await backend.aclose()
    await server.stop(None)


@pytest.fixture
def triton(served: tuple[FakeTriton, OpenInference, grpc.aio.Server]) -> FakeTriton:
    return served[0]


@pytest.fixture
def backend(served: tuple[FakeTriton, OpenInference, grpc.aio.Server]) -> OpenInference:
    return served[1]


def backend_at(port: int) -> OpenInference:
    contracts = {CONTRACT.name: CONTRACT}
    return OpenInference(f"127.0.0.1:{port}", contracts=contracts, max_request_bytes=1024 * 1024)


def request(rows: int = 1, **changes: Any) -> InferRequest:
    fields: dict[str, Any] = {
        "model": "double",
        "inputs": (Tensor.of("x", "FP32", np.arange(2 * rows).reshape(rows, 2)),),
        "deadline": time.monotonic() + 10,
        "version": "3",
        "variant": "fp32",
        "id": "mine",
    }
    return InferRequest(**{**fields, **changes})


async def test_outputs_come_in_the_contracts_order_or_in_the_one_asked_for(backend: OpenInference) -> None:
    response = await backend(request(rows=2))
    assert [tensor.name for tensor in response.outputs] == ["y", "sum"]
    assert response.outputs[0].numpy().tolist() == [[0, 2], [4, 6]]
    assert (response.version, response.variant, response.backend) == ("3", "fp32", "triton")
    response = await backend(request(outputs=("sum",)))
    assert [tensor.name for tensor in response.outputs] == ["sum"]


async def test_tensors_go_raw_and_the_callers_id_stays_here(
    triton: FakeTriton, backend: OpenInference
) -> None:
    parameters = {"a": True, "b": 2, "c": 2**63, "d": 0.5, "e": "text"}
    await backend(request(variant="int8", deadline=math.inf, parameters=parameters))
    asked = triton.asked
    assert (asked.model_name, asked.model_version, asked.id) == ("double-int8", "3", "")
    assert not asked.inputs[0].HasField("contents")
    values = {name: value.WhichOneof("parameter_choice") for name, value in asked.parameters.items()}
    assert values == {
        "a": "bool_param",
        "b": "int64_param",
        "c": "uint64_param",
        "d": "double_param",
        "e": "string_param",
    }


async def test_what_the_server_says_beside_the_tensors_is_passed_on(
    triton: FakeTriton, backend: OpenInference
) -> None:
    def change(reply: oip.ModelInferResponse) -> None:
        reply.parameters["seen"].int64_param = 7

    triton.change = change
    assert (await backend(request())).parameters == {"seen": 7}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda reply: reply.raw_output_contents.__setitem__(1, b""), "expected 8 bytes for FP32"),
        (lambda reply: reply.raw_output_contents.pop(), "2 outputs and 1 raw contents"),
        (lambda reply: setattr(reply.outputs[1], "datatype", "INT32"), "got INT32"),
        (lambda reply: reply.outputs[1].shape.append(1), "expected FP32"),
        (lambda reply: setattr(reply.outputs[1], "name", "z"), "expected outputs"),
        (lambda reply: setattr(reply, "model_version", "4"), "version '4', not 3"),
    ],
)
async def test_an_ok_with_wrong_tensors_is_a_failing_endpoint(
    triton: FakeTriton, backend: OpenInference, change: Callable[[Any], None], says: str
) -> None:
    triton.change = change
    with pytest.raises(BadReply, match=says):
        await backend(request())


@pytest.mark.parametrize(
    ("code", "text", "failure"),
    [
        ("INVALID_ARGUMENT", "[request id: <id_unknown>] unexpected shape", RejectedByBackend),
        ("NOT_FOUND", "Request for unknown model: 'double' is not found", EndpointFailed),
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", EndpointBusy),
        ("RESOURCE_EXHAUSTED", "too many", EndpointBusy),
        ("UNAVAILABLE", "Socket closed", EndpointFailed),
        ("INTERNAL", "the model failed", ModelFailed),
        ("INTERNAL", DEAD[1], EndpointFailed),
        ("CANCELLED", "", EndpointFailed),
    ],
)
async def test_each_of_tritons_failures_has_its_meaning(
    triton: FakeTriton, backend: OpenInference, code: str, text: str, failure: type[InferwayError]
) -> None:
    triton.error = (grpc.StatusCode[code], text)
    with pytest.raises(InferwayError) as raised:
        await backend(request())
    assert type(raised.value) is failure
    assert str(raised.value) == f"Triton: {text.removeprefix('[request id: <id_unknown>] ') or code}"


async def test_a_reply_over_the_limit_is_a_bad_one(triton: FakeTriton, backend: OpenInference) -> None:
    triton.change = lambda reply: reply.raw_output_contents.append(b"0" * 2**21)
    with pytest.raises(BadReply, match="larger than max"):
        await backend(request())


async def test_a_refused_connection_was_never_sent() -> None:
    backend = backend_at(free_port())
    with pytest.raises(EndpointUnreachable):
        await backend(request())
    assert not await backend.is_ready("double", "3", "fp32")
    await backend.aclose()


async def test_a_connection_that_breaks_in_flight_may_have_been_served(
    served: tuple[FakeTriton, OpenInference, grpc.aio.Server],
) -> None:
    triton, backend, server = served
    triton.hangs.clear()
    asked = asyncio.ensure_future(backend(request()))
    await triton.called("infer")
    await server.stop(None)
    with pytest.raises(EndpointFailed):
        await asked


async def test_a_cancelled_caller_leaves_the_connection_usable(
    triton: FakeTriton, backend: OpenInference
) -> None:
    triton.hangs.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await backend(request())
    triton.hangs.set()
    assert (await backend(request())).version == "3"


async def test_ready_is_what_triton_says_of_that_version_of_the_variant(
    triton: FakeTriton, backend: OpenInference
) -> None:
    assert await backend.is_ready("double", "3", "int8")
    triton.ready = False
    assert not await backend.is_ready("double", "3", "fp32")
    assert triton.calls == ["ready double-int8 3", "metadata double-int8 3", "ready double 3"]


async def test_a_model_of_other_tensors_than_the_contracts_is_never_ready(
    triton: FakeTriton, backend: OpenInference
) -> None:
    triton.metadata = _metadata(y="INT64")
    for _ in range(2):
        with pytest.raises(
            CannotServe,
            match=r"^Triton at 127.0.0.1:\d+, model 'double' version 3: "
            r"output 'y': it is INT64 \[-1, 2\] here, and FP32 \[-1, 2\] \(max_batch_size 4\) in model.yaml$",
        ):
            await backend.is_ready("double", "3", "fp32")
    triton.metadata = _metadata()
    assert await backend.is_ready("double", "3", "fp32")


async def test_an_input_that_the_contract_lacks_must_be_optional(
    triton: FakeTriton, backend: OpenInference
) -> None:
    assert triton.metadata is not None
    triton.metadata.inputs.add(name="mask", datatype="BOOL", shape=[-1, 2])
    with pytest.raises(CannotServe, match=r"input 'mask': it is BOOL \[-1, 2\] here, and not in model.yaml"):
        await backend.is_ready("double", "3", "fp32")
    triton.config.input.add(name="mask", optional=True)
    assert await backend.is_ready("double", "3", "fp32")


async def test_a_model_of_smaller_batches_than_the_contracts_is_never_ready(
    triton: FakeTriton, backend: OpenInference
) -> None:
    triton.config.max_batch_size = 2
    with pytest.raises(CannotServe, match=r"batches: up to 2 here, and max_batch_size 4 in model\.yaml"):
        await backend.is_ready("double", "3", "fp32")


async def test_a_model_that_fits_is_asked_for_its_tensors_again_once_it_was_gone(
    triton: FakeTriton, backend: OpenInference
) -> None:
    assert [await backend.is_ready("double", "3", "fp32") for _ in range(2)] == [True, True]
    assert triton.calls.count("metadata double 3") == 1
    triton.ready = False
    assert not await backend.is_ready("double", "3", "fp32")
    triton.ready, triton.metadata = True, _metadata(sum="FP64")
    with pytest.raises(CannotServe, match="output 'sum'"):
        await backend.is_ready("double", "3", "fp32")


async def test_a_server_that_does_not_tell_of_tensors_is_ready_without(
    triton: FakeTriton, backend: OpenInference
) -> None:
    triton.metadata = None
    assert await backend.is_ready("double", "3", "fp32")


async def see_it_dead(triton: FakeTriton, backend: OpenInference) -> None:
    triton.error = DEAD
    with pytest.raises(EndpointFailed):
        await backend(request())
    triton.error = None
    triton.calls.clear()


async def test_a_model_whose_process_died_is_unloaded_and_loaded_once(
    triton: FakeTriton, backend: OpenInference
) -> None:
    await see_it_dead(triton, backend)
    assert await backend.heal("double", "fp32") is True
    assert triton.calls == ["unload double", "load double"]
    assert await backend.heal("double", "fp32") is None
    assert len(triton.calls) == 2


async def test_there_is_nothing_to_heal_unless_a_process_was_seen_dead(
    triton: FakeTriton, backend: OpenInference
) -> None:
    triton.error = (grpc.StatusCode.INTERNAL, "out of memory")
    with pytest.raises(EndpointFailed):
        await backend(request())
    assert await backend.heal("double", "fp32") is None
    await see_it_dead(triton, backend)
    assert await backend.heal("double", "int8") is None


async def test_a_model_that_answers_again_is_left_alone(triton: FakeTriton, backend: OpenInference) -> None:
    """Another gateway may have healed it."""
    await see_it_dead(triton, backend)
    await backend(request())
    assert await backend.heal("double", "fp32") is None


async def test_two_heals_at_a_time_load_it_once(triton: FakeTriton, backend: OpenInference) -> None:
    await see_it_dead(triton, backend)
    assert await asyncio.gather(*(backend.heal("double", "fp32") for _ in range(2))) == [True, True]
    assert triton.calls.count("load double") == 1


async def test_a_load_that_failed_may_be_tried_again(triton: FakeTriton, backend: OpenInference) -> None:
    await see_it_dead(triton, backend)
    triton.can_load = False
    assert await backend.heal("double", "fp32") is False
    triton.can_load = True
    assert await backend.heal("double", "fp32") is True
    assert triton.calls.count("load double") == 2


async def test_a_load_outlasts_the_caller_that_began_it(triton: FakeTriton, backend: OpenInference) -> None:
    await see_it_dead(triton, backend)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await backend.heal("double", "fp32")
    assert await backend.heal("double", "fp32") is not False
    assert triton.calls.count("load double") == 1


async def test_closing_leaves_no_model_unloaded(triton: FakeTriton, backend: OpenInference) -> None:
    await see_it_dead(triton, backend)
    healing = asyncio.ensure_future(backend.heal("double", "fp32"))
    await triton.called("unload double")
    await backend.aclose()
    assert await healing is True


async def test_old_news_of_a_death_is_no_reason_to_heal_again(
    triton: FakeTriton, backend: OpenInference
) -> None:
    await see_it_dead(triton, backend)
    triton.error = DEAD
    triton.hangs.clear()
    late = asyncio.ensure_future(backend(request()))
    await triton.called("infer")
    assert await backend.heal("double", "fp32") is True
    triton.hangs.set()
    with pytest.raises(EndpointFailed):
        await late
    assert await backend.heal("double", "fp32") is None
    assert triton.calls.count("load double") == 1


async def test_a_triton_that_says_the_deadline_has_passed_is_told_as_a_timeout(
    triton: FakeTriton, backend: OpenInference
) -> None:
    triton.error = (grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
    with pytest.raises(TimeoutError):
        await backend(request())


async def test_triton_is_told_the_time_left(triton: FakeTriton, backend: OpenInference) -> None:
    await backend(request(deadline=time.monotonic() + 30))
    assert triton.asked.parameters["timeout"].int64_param / 1e6 == pytest.approx(30, abs=5)
    await backend(request(deadline=math.inf))
    assert "timeout" not in triton.asked.parameters


async def test_a_call_whose_caller_has_left_is_not_cancelled(
    triton: FakeTriton, backend: OpenInference
) -> None:
    """Of a real Triton a cancelled call may be the end."""
    triton.hangs.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await backend(request(deadline=time.monotonic() + 0.05))
    assert triton.answered == 0
    triton.hangs.set()
    await until(lambda: triton.answered == 1)
