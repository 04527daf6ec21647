"""Deadlines over every protocol before a server that hangs: it is told of them, and nobody waits longer."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import pytest

from services.protocol import open_inference_pb2 as oip
from services.protocol import tfserving_pb2 as tfs
from tests.callers import (
    EVERY,
    GRPC,
    HTTP,
    OIP,
    PIXELS,
    Answered,
    Ask,
    oip_message,
    over_grpc,
    over_http,
)
from tests.serving import MODEL, StartedGateway, running_gateway

SECONDS = 0.4
HOUR_SECONDS = 3600.0
LATE_SECONDS = 0.5
"""What a busy machine may be late; the gateway itself is so by milliseconds."""
Call = Callable[[StartedGateway], Answered]


class Hanging:
    """Speaks TF Serving's protocol; answers while `is_open` is set, and waits for it otherwise.

    Not Triton's or TorchServe's: their calls are not to end early, and have no deadline on the wire.
    """

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.left_seconds: list[float] = []
        self.ended = threading.Event()

    def predict(self, asked: tfs.PredictRequest, context: Any) -> tfs.PredictResponse:
        if not self.is_open.is_set():
            over = threading.Event()  # of this call: a health check may hang here beside it, and end before
            if context.time_remaining() < HOUR_SECONDS:  # the health check's question has no deadline
                self.left_seconds.append(context.time_remaining())
                context.add_callback(self.ended.set)
            if context.add_callback(over.set):
                over.wait(10)
        rows = asked.inputs["image"].tensor_shape.dim[0].size
        reply = tfs.PredictResponse(model_spec=asked.model_spec)
        output = reply.outputs["probabilities"]
        output.dtype, output.tensor_content = tfs.DT_FLOAT, bytes(rows * 40)
        for size in (rows, 10):
            output.tensor_shape.dim.add(size=size)
        return reply

    def status(self, _: tfs.GetModelStatusRequest, __: Any) -> tfs.GetModelStatusResponse:
        available = tfs.ModelVersionStatus(version=1, state=tfs.ModelVersionStatus.AVAILABLE)
        return tfs.GetModelStatusResponse(model_version_status=[available])

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        def unary(method: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=request.FromString,
                response_serializer=lambda reply: reply.SerializeToString(),
            )

        predict = {"Predict": unary(self.predict, tfs.PredictRequest)}
        status = {"GetModelStatus": unary(self.status, tfs.GetModelStatusRequest)}
        return [
            grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", predict),
            grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", status),
        ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hanging, StartedGateway]]:
    engine = Hanging()
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(engine.handlers())
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    settings = {"endpoints": {"hanging": {"backend": "tfserving", "address": address}}}
    with running_gateway(tmp_path_factory.mktemp("deadlines"), settings) as gateway:
        yield engine, gateway
    server.stop(None)


def body(**parameters: Any) -> bytes:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [0.5] * PIXELS}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def oip_http_parameter(gateway: StartedGateway, microseconds: Any) -> Answered:
    return over_http(gateway.http, "POST", f"/v2/models/{MODEL}/infer", body(timeout=microseconds))


def oip_grpc_parameter(gateway: StartedGateway, microseconds: int | str) -> Answered:
    message = oip.ModelInferRequest.FromString(oip_message())
    if isinstance(microseconds, int):
        message.parameters["timeout"].int64_param = microseconds
    else:
        message.parameters["timeout"].string_param = microseconds
    return over_grpc(gateway.grpc, f"{OIP}ModelInfer", message.SerializeToString())


def by_header(ask: Ask, milliseconds: str) -> Call:
    return lambda gateway: ask(gateway, {"X-Request-Timeout-Ms": milliseconds})


def by_call(ask: Ask) -> Call:
    return lambda gateway: ask(gateway, {}, seconds=SECONDS)


WAYS: list[tuple[str, Call]] = [
    *((f"{ask.__name__} header", by_header(ask, str(SECONDS * 1000))) for ask in HTTP),
    *((f"{ask.__name__} call", by_call(ask)) for ask in GRPC),
    ("oip_http parameter", partial(oip_http_parameter, microseconds=int(SECONDS * 1e6))),
    ("oip_grpc parameter", partial(oip_grpc_parameter, microseconds=int(SECONDS * 1e6))),
]


@pytest.mark.parametrize("call", [call for _, call in WAYS], ids=[name for name, _ in WAYS])
def test_a_server_that_hangs_is_told_the_time_left_and_nobody_waits_longer(
    served: tuple[Hanging, StartedGateway], call: Call
) -> None:
    engine, gateway = served
    engine.is_open.clear()
    engine.ended.clear()
    engine.left_seconds.clear()
    try:
        begun = time.monotonic()
        answered = call(gateway)
        took_seconds = time.monotonic() - begun
    finally:
        engine.is_open.set()
    print(f"took {took_seconds - SECONDS:+.4f} s")  # noqa: T201 - shown with -s: the figure for the reports
    assert answered.status in {504, "DEADLINE_EXCEEDED"}, answered
    assert SECONDS - 0.05 <= took_seconds < SECONDS + LATE_SECONDS
    assert engine.ended.wait(LATE_SECONDS), "the call to the server goes on"
    assert len(engine.left_seconds) == 1, "what is late is not tried again"
    assert 0 < engine.left_seconds[0] < 3


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e999"])
@pytest.mark.parametrize("ask", HTTP)
def test_a_header_that_is_no_positive_number_is_refused(
    served: tuple[Hanging, StartedGateway], ask: Ask, value: str
) -> None:
    answered = by_header(ask, value)(served[1])
    assert answered.status == 400
    assert "X-Request-Timeout-Ms: expected a positive number of milliseconds" in answered.text


@pytest.mark.parametrize("value", ["soon", -1, 0.5, 2**63, True, float("nan")])
def test_a_parameter_that_is_no_natural_number_is_refused(
    served: tuple[Hanging, StartedGateway], value: Any
) -> None:
    answered = oip_http_parameter(served[1], value)
    assert answered.status == 400
    assert "'timeout': expected" in answered.text


@pytest.mark.parametrize("value", ["soon", -1])
def test_a_parameter_over_grpc_that_is_no_natural_number_is_refused(
    served: tuple[Hanging, StartedGateway], value: int | str
) -> None:
    answered = oip_grpc_parameter(served[1], value)
    assert answered.status == "INVALID_ARGUMENT"
    assert "'timeout': expected" in answered.text


@pytest.mark.parametrize(
    "call",
    [
        *(by_header(ask, "1e300") for ask in HTTP),
        partial(oip_http_parameter, microseconds=2**63 - 1),
        partial(oip_http_parameter, microseconds=0),
        partial(oip_grpc_parameter, microseconds=2**63 - 1),
        partial(oip_grpc_parameter, microseconds=0),
        *(partial(ask, headers={}, seconds=1e6) for ask in GRPC),
        *(partial(ask, headers={}) for ask in EVERY),
    ],
)
def test_a_huge_one_none_and_a_parameter_of_0_are_answered(
    served: tuple[Hanging, StartedGateway], call: Call
) -> None:
    assert call(served[1]).status in {200, "OK"}
