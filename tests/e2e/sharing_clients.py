"""One digit asked for over every protocol, and what each reply says of itself.

An image is FP32 [1, 28, 28, 1] as `heldout` gives it; what is asked besides is in headers, or in metadata.
"""

import io
import json
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from services.protocol import open_inference_pb2 as oip
from services.protocol import tfserving_pb2 as tfs
from services.protocol import torchserve_pb2 as ts
from tests.load import binary_request
from tests.serving import MODEL, StartedGateway

Image = NDArray[np.float32]
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Said:
    """The probabilities, as far as the protocol gives them in order, and the facts (`x-inferway-...`)."""

    values: list[float]
    facts: Mapping[str, str]


def post(gateway: StartedGateway, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[Any, bytes]:
    """Headers and body of a 200."""
    request = urllib.request.Request(f"http://{gateway.http}{path}", body, dict(headers))
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - http only
        return reply.headers, reply.read()


def _facts(pairs: Any) -> dict[str, str]:
    named = {name.lower(): str(value) for name, value in pairs}
    return {name: value for name, value in named.items() if name.startswith("x-inferway-")}


def oip_json(gateway: StartedGateway, image: Image, asking: Mapping[str, str] = NOTHING) -> Said:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": image.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    headers, reply = post(gateway, f"/v2/models/{MODEL}/infer", body, asking)
    return Said(json.loads(reply)["outputs"][0]["data"], _facts(headers.items()))


def oip_binary(gateway: StartedGateway, image: Image, asking: Mapping[str, str] = NOTHING) -> Said:
    head, _, body = binary_request(image[0]).partition(b"\r\n\r\n")
    lines = (line.split(": ") for line in head.decode().split("\r\n")[1:])
    headers, reply = post(gateway, f"/v2/models/{MODEL}/infer", body, {**dict(lines), **asking})
    raw = reply[int(headers["inference-header-content-length"]) :]
    return Said(np.frombuffer(raw, "<f4").tolist(), _facts(headers.items()))


def tfs_json(
    gateway: StartedGateway, image: Image, asking: Mapping[str, str] = NOTHING, label: str = ""
) -> Said:
    body = json.dumps({"instances": image.tolist()}).encode()
    of_label = f"/labels/{label}" if label else ""
    headers, reply = post(gateway, f"/v1/models/{MODEL}{of_label}:predict", body, asking)
    return Said(json.loads(reply)["predictions"][0], _facts(headers.items()))


def ts_http(gateway: StartedGateway, image: Image, asking: Mapping[str, str] = NOTHING) -> Said:
    headers, reply = post(gateway, f"/predictions/{MODEL}", _png(image), asking)
    return Said([json.loads(reply)[str(digit)] for digit in range(10)], _facts(headers.items()))


def _png(image: Image) -> bytes:
    """The file from which `transform.py` makes just this tensor again."""
    file = io.BytesIO()
    PIL.Image.fromarray((image[0, ..., 0] * 255).round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _call(
    gateway: StartedGateway, method: str, message: Any, asking: Mapping[str, str]
) -> tuple[bytes, dict[str, str]]:
    with grpc.insecure_channel(gateway.grpc) as channel:
        stub: Any = channel.unary_unary(method)
        reply, call = stub.with_call(message.SerializeToString(), timeout=10, metadata=tuple(asking.items()))
        return reply, _facts(call.trailing_metadata())


def oip_grpc(gateway: StartedGateway, image: Image, asking: Mapping[str, str] = NOTHING) -> Said:
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
    asked = oip.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[image.tobytes()])
    data, _ = _call(gateway, "/inference.GRPCInferenceService/ModelInfer", asked, asking)
    reply = oip.ModelInferResponse.FromString(data)
    facts = _facts((name, value.string_param) for name, value in reply.parameters.items())
    return Said(np.frombuffer(reply.raw_output_contents[0], "<f4").tolist(), facts)


def tfs_grpc(
    gateway: StartedGateway, image: Image, asking: Mapping[str, str] = NOTHING, label: str = ""
) -> Said:
    shape = tfs.TensorShapeProto(dim=[tfs.TensorShapeProto.Dim(size=size) for size in image.shape])
    proto = tfs.TensorProto(dtype=tfs.DT_FLOAT, tensor_shape=shape, tensor_content=image.tobytes())
    spec = tfs.ModelSpec(name=MODEL, version_label=label) if label else tfs.ModelSpec(name=MODEL)
    asked = tfs.PredictRequest(model_spec=spec, inputs={"image": proto})
    data, facts = _call(gateway, "/tensorflow.serving.PredictionService/Predict", asked, asking)
    return Said(list(tfs.PredictResponse.FromString(data).outputs["probabilities"].float_val), facts)


def ts_grpc(gateway: StartedGateway, image: Image, asking: Mapping[str, str] = NOTHING) -> Said:
    asked = ts.PredictionsRequest(model_name=MODEL, input={"data": _png(image)})
    method = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    data, facts = _call(gateway, method, asked, asking)
    answer = json.loads(ts.PredictionResponse.FromString(data).prediction)
    return Said([answer[str(digit)] for digit in range(10)], facts)


CLIENTS: Mapping[str, Callable[..., Said]] = {
    "oip_json": oip_json,
    "oip_binary": oip_binary,
    "oip_grpc": oip_grpc,
    "tfs_json": tfs_json,
    "tfs_grpc": tfs_grpc,
    "ts_http": ts_http,
    "ts_grpc": ts_grpc,
}
