"""A real gateway process sends its spans over OTLP to a collector of a few lines, which keeps them."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.launch import free_port
from services.protocol import open_inference_pb2 as oip
from services.protocol import tfserving_pb2 as tfs
from services.protocol import torchserve_pb2 as ts
from tests.collector import collecting, values
from tests.serving import EMBEDDED, MODEL, ROOT, Engine, StartedGateway, heldout, running_gateway

EXAMPLE = (ROOT / "models" / MODEL / "example.png").read_bytes()
CALLER = "b7ad6b7169203331"
STAGES = ["Resolved", "Cached(memory)", "SingleFlight", "Admission", "Retry", "Hedged", "Routed", "attempt"]
OIP, TFS, TORCHSERVE = (
    "inference.GRPCInferenceService/ModelInfer",
    "tensorflow.serving.PredictionService/Predict",
    "org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
)


def _trace(number: int) -> str:
    return f"{number + 1:032x}"


def _headers(number: int) -> dict[str, str]:
    return {"traceparent": f"00-{_trace(number)}-{CALLER}-01", "x-request-id": f"request-{number}"}


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
    request = urllib.request.Request(url, body, headers=dict(headers))  # noqa: S310 - http only
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
        return {name.lower(): value for name, value in reply.headers.items()}


def _call(channel: grpc.Channel, path: str, message: Any, headers: Mapping[str, str]) -> Mapping[str, str]:
    method: Any = channel.unary_unary(f"/{path}", request_serializer=type(message).SerializeToString)
    _, call = method.with_call(message, metadata=tuple(headers.items()), timeout=10)
    return dict(call.trailing_metadata())


def _send_all(gateway: StartedGateway) -> list[Mapping[str, str]]:
    """Another image over each protocol, so that no cache answers; what came back beside the answer."""
    images, _ = heldout()
    http = f"http://{gateway.http}"
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": [1, 28, 28, 1],
        "data": images[0].ravel().tolist(),
    }
    instances = {"instances": [{"image": images[1].tolist()}]}
    described = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
    shape = tfs.TensorShapeProto(dim=[tfs.TensorShapeProto.Dim(size=n) for n in (1, 28, 28, 1)])
    proto = tfs.TensorProto(dtype=tfs.DT_FLOAT, tensor_shape=shape, float_val=images[4].ravel().tolist())
    with grpc.insecure_channel(gateway.grpc) as channel:
        sends: Sequence[Callable[[Mapping[str, str]], Mapping[str, str]]] = (
            lambda headers: _post(
                f"{http}/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}).encode(), headers
            ),
            lambda headers: _post(
                f"{http}/v1/models/{MODEL}:predict", json.dumps(instances).encode(), headers
            ),
            lambda headers: _post(f"{http}/predictions/{MODEL}", EXAMPLE, headers),
            lambda headers: _call(
                channel,
                OIP,
                oip.ModelInferRequest(
                    model_name=MODEL, inputs=[described], raw_input_contents=[images[3].tobytes()]
                ),
                headers,
            ),
            lambda headers: _call(
                channel,
                TFS,
                tfs.PredictRequest(model_spec=tfs.ModelSpec(name=MODEL), inputs={"image": proto}),
                headers,
            ),
            lambda headers: _call(
                channel, TORCHSERVE, ts.PredictionsRequest(model_name=MODEL, input={"data": EXAMPLE}), headers
            ),
        )
        return [send(_headers(number)) for number, send in enumerate(sends)]


def test_every_protocols_request_is_a_tree_in_its_callers_trace(tmp_path: Path) -> None:
    with collecting() as collector:
        settings = {
            "endpoints": {"embedded": EMBEDDED},
            "tracing": {"otlp_endpoint": collector.endpoint, "sample_ratio": 0, "service_name": "tested"},
        }
        with running_gateway(tmp_path, settings) as gateway:
            replies = _send_all(gateway)
        # Batches leave every few seconds; the end of the gateway sends the last of them.
        names = [
            "POST /v2/models/{model}/infer",
            "POST /v1/models/{model}:predict",
            "POST /predictions/{model}",
            OIP,
            TFS,
            TORCHSERVE,
        ]
        protocols = []
        for number, reply in enumerate(replies):
            assert reply["x-request-id"] == f"request-{number}"
            spans = collector.of(_trace(number))
            server = values(spans[0].attributes)
            protocols.append(server["inferway.protocol"])
            assert spans[0].parent_span_id.hex() == CALLER
            assert server["inferway.request_id"] == f"request-{number}"
            assert server["inferway.outcome"] == "ok"
            expected = STAGES
            if number == 5:  # the file of the third request, which the cache has
                expected = STAGES[:2]
                assert server["inferway.cache"] == "memory"
            else:
                attempt = values(spans[-1].attributes)
                assert (attempt["inferway.endpoint"], attempt["inferway.attempt"]) == ("embedded", 1)
            assert [span.name for span in spans] == [names[number], *expected]
        assert protocols == [
            "oip_http",
            "tfserving_http",
            "torchserve_http",
            "oip_grpc",
            "tfserving_grpc",
            "torchserve_grpc",
        ]
        assert {resource["service.name"] for resource in collector.resources} == {"tested"}
        assert len(collector.spans) == 5 * (1 + len(STAGES)) + 3  # none without a traceparent


@pytest.mark.engine
def test_a_real_engines_attempt_is_in_the_trace_and_what_is_refused_never_gets_there(
    tmp_path: Path, triton: Engine
) -> None:
    images, _ = heldout()
    gone = {"backend": "triton", "address": f"127.0.0.1:{free_port()}"}
    with collecting() as collector:
        settings = {
            "endpoints": {"triton-1": triton.endpoint, "gone": gone},
            "tracing": {"otlp_endpoint": collector.endpoint, "sample_ratio": 1},
        }
        with running_gateway(tmp_path, settings) as gateway:
            described = oip.ModelInferRequest.InferInputTensor(
                name="image", datatype="FP32", shape=[1, 28, 28, 1]
            )
            message = oip.ModelInferRequest(
                model_name=MODEL, inputs=[described], raw_input_contents=[images[0].tobytes()]
            )
            with grpc.insecure_channel(gateway.grpc) as channel:
                _call(channel, OIP, message, _headers(0))
            url = f"http://{gateway.http}/v2/models/{MODEL}/infer"
            with pytest.raises(urllib.error.HTTPError) as refused:
                _post(url, b"{", _headers(1))
            with refused.value as reply:
                assert reply.headers["x-request-id"] == "request-1"
        spans = collector.of(_trace(0))
        assert [span.name for span in spans] == [OIP, *STAGES]
        attempt = values(spans[-1].attributes)
        assert (attempt["inferway.endpoint"], attempt["inferway.backend"]) == ("triton-1", "triton")
        (refusal,) = collector.of(_trace(1))
        assert values(refusal.attributes)["http.response.status_code"] == 400
        assert refusal.status.code == 0  # the caller's fault


def test_a_collector_that_is_not_there_costs_no_request_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    settings = {
        "endpoints": {"embedded": EMBEDDED},
        "tracing": {"otlp_endpoint": f"http://127.0.0.1:{free_port()}", "sample_ratio": 1},
    }
    body = np.zeros((1, 28, 28, 1), "<f4").ravel().tolist()
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": body}
    with running_gateway(tmp_path, settings) as gateway:
        url = f"http://{gateway.http}/v2/models/{MODEL}/infer"
        reply = _post(url, json.dumps({"inputs": [tensor]}).encode(), _headers(0))
        assert reply["x-request-id"] == "request-0"
        before = time.monotonic()
        gateway.running.process.terminate()
        assert gateway.running.process.wait(timeout=20) == 0
        assert time.monotonic() - before < 10
    log = (tmp_path / "gateway.log").read_text()
    assert "Traceback" not in log
    assert "gateway_stopped" in log
