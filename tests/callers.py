"""One request over each of the six protocols, with any headers, from the outside."""

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from services.protocol import open_inference_pb2 as oip
from services.protocol import tfserving_pb2 as tfs
from services.protocol import torchserve_pb2 as ts
from tests.serving import MODEL, ROOT, StartedGateway

PIXELS = 28 * 28
SECONDS = 20.0
OIP = "/inference.GRPCInferenceService/"
TORCHSERVE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back.

    Attributes:
        status: HTTP's number, or gRPC's name.
        headers: of the reply (gRPC: trailing metadata), names in lower case.
        text: the body, or gRPC's message.
    """

    status: int | str
    headers: Mapping[str, str]
    text: str


Ask = Callable[..., Answered]


def over_http(
    address: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> Answered:
    """One HTTP request on a connection of its own."""
    connection = (
        http.client.HTTPSConnection(address, context=tls, timeout=SECONDS)
        if tls
        else http.client.HTTPConnection(address, timeout=SECONDS)
    )
    try:
        connection.request(method, path, body, dict(headers or {}))
        reply = connection.getresponse()
        names = {name.lower(): value for name, value in reply.getheaders()}
        return Answered(reply.status, names, reply.read().decode())
    finally:
        connection.close()


def over_grpc(
    address: str,
    path: str,
    message: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    tls: grpc.ChannelCredentials | None = None,
    seconds: float = SECONDS,
) -> Answered:
    """One unary gRPC call on a channel of its own, with a deadline after so many seconds."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    opened = grpc.secure_channel(address, tls, options) if tls else grpc.insecure_channel(address, options)
    metadata = tuple((name.lower(), value) for name, value in (headers or {}).items())
    with opened as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        try:
            _, done = call.with_call(message, metadata=metadata, timeout=seconds)
        except grpc.RpcError as error:
            return Answered(error.code().name, _texts(error), str(error.details()))
        return Answered("OK", _texts(done), "")


def _texts(done: Any) -> dict[str, str]:
    """The trailing metadata of a call."""
    return {name: str(value) for name, value in done.trailing_metadata() or ()}


def oip_http(gateway: StartedGateway, headers: Mapping[str, str]) -> Answered:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [0.5] * PIXELS}
    body = json.dumps({"inputs": [tensor]}).encode()
    return over_http(gateway.http, "POST", f"/v2/models/{MODEL}/infer", body, headers)


def tfserving_http(gateway: StartedGateway, headers: Mapping[str, str]) -> Answered:
    image = [[[0.5]] * 28] * 28
    body = json.dumps({"instances": [{"image": image}]}).encode()
    return over_http(gateway.http, "POST", f"/v1/models/{MODEL}:predict", body, headers)


def torchserve_http(gateway: StartedGateway, headers: Mapping[str, str]) -> Answered:
    body = (ROOT / "models" / MODEL / "example.png").read_bytes()
    return over_http(gateway.http, "POST", f"/predictions/{MODEL}", body, headers)


def oip_message(model: str = MODEL) -> bytes:
    """A ModelInferRequest."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
    content = bytes(4 * PIXELS)
    message = oip.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[content])
    return message.SerializeToString()


def oip_grpc(gateway: StartedGateway, headers: Mapping[str, str], *, seconds: float = SECONDS) -> Answered:
    return over_grpc(gateway.grpc, f"{OIP}ModelInfer", oip_message(), headers, seconds=seconds)


def tfserving_grpc(
    gateway: StartedGateway, headers: Mapping[str, str], *, seconds: float = SECONDS
) -> Answered:
    shape = tfs.TensorShapeProto(dim=[tfs.TensorShapeProto.Dim(size=n) for n in (1, 28, 28, 1)])
    proto = tfs.TensorProto(dtype=tfs.DT_FLOAT, tensor_shape=shape, float_val=[0.5] * PIXELS)
    message = tfs.PredictRequest(model_spec=tfs.ModelSpec(name=MODEL), inputs={"image": proto})
    path = "/tensorflow.serving.PredictionService/Predict"
    return over_grpc(gateway.grpc, path, message.SerializeToString(), headers, seconds=seconds)


def torchserve_grpc(
    gateway: StartedGateway, headers: Mapping[str, str], *, seconds: float = SECONDS
) -> Answered:
    image = (ROOT / "models" / MODEL / "example.png").read_bytes()
    message = ts.PredictionsRequest(model_name=MODEL, input={"data": image})
    path = f"{TORCHSERVE}Predictions"
    return over_grpc(gateway.grpc, path, message.SerializeToString(), headers, seconds=seconds)


HTTP: tuple[Ask, ...] = (oip_http, tfserving_http, torchserve_http)
GRPC: tuple[Ask, ...] = (oip_grpc, tfserving_grpc, torchserve_grpc)
EVERY = (*HTTP, *GRPC)
