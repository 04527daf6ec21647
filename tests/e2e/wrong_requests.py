"""Requests that each protocol must refuse, what it must answer, and how they are sent."""

import gzip
import http.client
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import grpc
import numpy as np
from google.protobuf.wrappers_pb2 import Int64Value
from PIL import Image

from services.protocol import open_inference_pb2 as oip
from services.protocol import tfserving_pb2 as tfs
from services.protocol import torchserve_pb2 as ts
from tests.serving import StartedGateway

INFER, PREDICT, FILES = "/v2/models/cnn_mnist/infer", "/v1/models/cnn_mnist:predict", "/predictions/cnn_mnist"
OIP = "/inference.GRPCInferenceService/ModelInfer"
TFS = "/tensorflow.serving.PredictionService/Predict"
TS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
LIMIT_BYTES = 64 * 2**20
RAW = np.zeros(784, "<f4").tobytes()


@dataclass(frozen=True)
class Http:
    """A request and the refusal that it must meet: `texts` are in the error's text."""

    path: str
    body: bytes
    status: int
    texts: tuple[str, ...]
    headers: Mapping[str, str] = field(default_factory=dict)

    def refusal(self, gateway: StartedGateway) -> tuple[int, str]:
        """What came back: the status, and the text from the protocol's own place for it."""
        connection = http.client.HTTPConnection(gateway.http, timeout=30)
        try:
            connection.request("POST", self.path, self.body, dict(self.headers))
            reply = connection.getresponse()
            content = json.loads(reply.read())
        finally:
            connection.close()
        if self.path.startswith("/predictions"):
            assert content["code"] == reply.status, content
            assert content["type"].endswith("Exception"), content
            return reply.status, content["message"]
        return reply.status, content["error"]


@dataclass(frozen=True)
class Grpc:
    """The same over gRPC; `status` is a code's name."""

    method: str
    message: bytes
    status: str
    texts: tuple[str, ...]
    compression: grpc.Compression = grpc.Compression.NoCompression

    def refusal(self, gateway: StartedGateway) -> tuple[str, str]:
        """What came back: code and details."""
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(gateway.grpc, options, self.compression) as channel:
            try:
                call: Any = channel.unary_unary(self.method)
                call(self.message, timeout=30)
            except grpc.RpcError as error:
                return error.code().name, error.details() or ""
        return "OK", ""


def oip_json(**changes: Any) -> bytes:
    """An OIP REST body whose one tensor is right but for `changes`."""
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [0] * 784, **changes}
    return json.dumps({"inputs": [tensor]}).encode()


def oip_binary(raw: bytes) -> Http:
    """An OIP REST request with these bytes behind its JSON, which must be refused for their number."""
    header = json.loads(oip_json(parameters={"binary_data_size": len(raw)}))
    del header["inputs"][0]["data"]
    head = json.dumps(header).encode()
    return Http(INFER, head + raw, 400, BYTES, {"Inference-Header-Content-Length": str(len(head))})


def oip_grpc(raw: bytes = RAW, model: str = "cnn_mnist", version: str = "", **changes: Any) -> bytes:
    """A ModelInferRequest whose one tensor is right but for `changes`."""
    right = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1]}
    tensor = oip.ModelInferRequest.InferInputTensor(**{**right, **changes})
    return oip.ModelInferRequest(
        model_name=model, model_version=version, inputs=[tensor], raw_input_contents=[raw]
    ).SerializeToString()


def tfs_grpc(
    name: str = "image", shape: tuple[int, ...] = (1, 28, 28, 1), spec: Any = None, **changes: Any
) -> bytes:
    """A PredictRequest that is right but for what is given."""
    dims = [tfs.TensorShapeProto.Dim(size=size) for size in shape]
    right = {"dtype": tfs.DT_FLOAT, "tensor_shape": tfs.TensorShapeProto(dim=dims), "tensor_content": RAW}
    tensor = tfs.TensorProto(**{**right, **changes})
    model = tfs.ModelSpec(**{"name": "cnn_mnist", **(spec or {})})
    return tfs.PredictRequest(model_spec=model, inputs={name: tensor}).SerializeToString()


def ts_grpc(file: bytes, model: str = "cnn_mnist", version: str = "") -> bytes:
    """A PredictionsRequest."""
    asked = ts.PredictionsRequest(model_name=model, model_version=version, input={"data": file})
    return asked.SerializeToString()


def rows(value: Any) -> bytes:
    """A TF Serving REST body of one instance."""
    return json.dumps({"instances": [value]}).encode()


def picture(side: int) -> bytes:
    """A PNG of one bit a pixel: some kilobytes for any number of pixels."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


def nested(*shape: int) -> Any:
    """Zeros as nested lists."""
    return np.zeros(shape).tolist()


SHAPE = ("tensor 'image'", "expected shape [-1, 28, 28, 1]", "got shape [1, 28, 27, 1]")
NAME = ("tensor 'picture'", "expected the inputs ['image']", "got an unknown input")
BATCH = ("tensor 'image'", "expected a batch of 1 to 64", "got a batch of 65")
DATATYPE = ("tensor 'image'", "expected datatype FP32", "got INT32")
BYTES = ("tensor 'image'", "expected 3136 bytes", "got 3132 bytes")
TOO_LARGE = (f"larger than the limit of {LIMIT_BYTES} bytes",)
NO_IMAGE = ("expected a PNG", "got something else")

WRONG: dict[str, Http | Grpc] = {
    "oip_http-name": Http(INFER, oip_json(name="picture"), 400, NAME),
    "oip_http-shape": Http(INFER, oip_json(shape=[1, 28, 27, 1]), 400, SHAPE),
    "oip_http-datatype": Http(INFER, oip_json(datatype="INT32"), 400, DATATYPE),
    "oip_http-batch": Http(INFER, oip_json(shape=[65, 28, 28, 1]), 400, BATCH),
    "oip_http-values": Http(INFER, oip_json(data=[0] * 783), 400, ("'image'", "784 elements", "783")),
    "oip_http-bytes": oip_binary(RAW[4:]),
    "oip_http-not_json": Http(INFER, b"{'inputs': 1}", 400, ("not JSON",)),
    "oip_http-model": Http("/v2/models/nope/infer", oip_json(), 404, ("model 'nope'",)),
    "oip_http-version": Http("/v2/models/cnn_mnist/versions/9/infer", oip_json(), 404, ("version '9'",)),
    "tfs_http-name": Http(PREDICT, rows({"picture": nested(28, 28, 1)}), 400, ("picture", "image")),
    "tfs_http-shape": Http(PREDICT, rows(nested(28, 27, 1)), 400, SHAPE),
    "tfs_http-datatype": Http(PREDICT, rows([[["a"] * 1] * 28] * 28), 400, ("'image'", "FP32", "String")),
    "tfs_http-batch": Http(PREDICT, json.dumps({"instances": nested(65, 28, 28, 1)}).encode(), 400, BATCH),
    "tfs_http-not_json": Http(PREDICT, b"<xml/>", 400, ("JSON Parse error",)),
    "tfs_http-model": Http("/v1/models/nope:predict", rows(0), 404, ("Latest(nope)",)),
    "tfs_http-version": Http("/v1/models/cnn_mnist/versions/9:predict", rows(0), 404, ("cnn_mnist, 9",)),
    "tfs_http-label": Http("/v1/models/cnn_mnist/labels/nope:predict", rows(0), 400, ("label: nope",)),
    "ts_http-not_an_image": Http(FILES, b"a text", 400, NO_IMAGE),
    "ts_http-image_cut": Http(FILES, picture(2000)[:200], 400, ("the PNG file is broken",)),
    "ts_http-image_bomb": Http(FILES, picture(5000), 400, ("at most 16777216 pixels", "5000 x 5000")),
    "ts_http-shape": Http(
        FILES,
        json.dumps({"image": nested(28, 27, 1)}).encode(),
        400,
        SHAPE,
        {"Content-Type": "application/json"},
    ),
    "ts_http-batch": Http(
        FILES,
        json.dumps({"instances": [{"image": nested(28, 28, 1)}] * 65}).encode(),
        400,
        ("'instances'", "expected a list of 1 to 64 items", "got 65 items"),
        {"Content-Type": "application/json"},
    ),
    "ts_http-not_json": Http(FILES, b"{", 400, ("not JSON",), {"Content-Type": "application/json"}),
    "ts_http-model": Http("/predictions/nope", b"", 404, ("nope",)),
    "ts_http-version": Http(f"{FILES}/9", picture(28), 404, ("version '9'",)),
    "oip_grpc-name": Grpc(OIP, oip_grpc(name="picture"), "INVALID_ARGUMENT", NAME),
    "oip_grpc-shape": Grpc(OIP, oip_grpc(shape=[1, 28, 27, 1]), "INVALID_ARGUMENT", SHAPE),
    "oip_grpc-datatype": Grpc(OIP, oip_grpc(datatype="INT32"), "INVALID_ARGUMENT", DATATYPE),
    "oip_grpc-bytes": Grpc(OIP, oip_grpc(RAW[4:]), "INVALID_ARGUMENT", BYTES),
    "oip_grpc-batch": Grpc(OIP, oip_grpc(RAW * 65, shape=[65, 28, 28, 1]), "INVALID_ARGUMENT", BATCH),
    "oip_grpc-garbage": Grpc(OIP, b"\xff\xfe", "INVALID_ARGUMENT", ("no ModelInferRequest",)),
    "oip_grpc-model": Grpc(OIP, oip_grpc(model="nope"), "NOT_FOUND", ("model 'nope'",)),
    "oip_grpc-version": Grpc(OIP, oip_grpc(version="9"), "NOT_FOUND", ("version '9'",)),
    "tfs_grpc-name": Grpc(TFS, tfs_grpc("picture"), "INVALID_ARGUMENT", NAME),
    "tfs_grpc-shape": Grpc(TFS, tfs_grpc(shape=(1, 28, 27, 1)), "INVALID_ARGUMENT", SHAPE),
    "tfs_grpc-datatype": Grpc(TFS, tfs_grpc(dtype=tfs.DT_INT32), "INVALID_ARGUMENT", DATATYPE),
    "tfs_grpc-bytes": Grpc(TFS, tfs_grpc(tensor_content=RAW[4:]), "INVALID_ARGUMENT", BYTES),
    "tfs_grpc-batch": Grpc(TFS, tfs_grpc(shape=(65, 28, 28, 1)), "INVALID_ARGUMENT", BATCH),
    "tfs_grpc-garbage": Grpc(TFS, b"\xff\xfe", "INVALID_ARGUMENT", ("no PredictRequest",)),
    "tfs_grpc-model": Grpc(TFS, tfs_grpc(spec={"name": "nope"}), "NOT_FOUND", ("nope",)),
    "tfs_grpc-version": Grpc(TFS, tfs_grpc(spec={"version": Int64Value(value=9)}), "NOT_FOUND", ("9",)),
    "tfs_grpc-label": Grpc(
        TFS, tfs_grpc(spec={"version_label": "nope"}), "INVALID_ARGUMENT", ("label: nope",)
    ),
    "ts_grpc-not_an_image": Grpc(TS, ts_grpc(b"a text"), "INVALID_ARGUMENT", NO_IMAGE),
    "ts_grpc-image_bomb": Grpc(TS, ts_grpc(picture(5000)), "INVALID_ARGUMENT", ("at most 16777216 pixels",)),
    "ts_grpc-garbage": Grpc(TS, b"\xff\xfe", "INVALID_ARGUMENT", ("no PredictionsRequest",)),
    "ts_grpc-model": Grpc(TS, ts_grpc(b"", "nope"), "NOT_FOUND", ("nope",)),
    "ts_grpc-version": Grpc(TS, ts_grpc(picture(28), version="9"), "NOT_FOUND", ("version '9'",)),
}


@cache
def bombs() -> dict[str, Http | Grpc]:
    """Bodies that are, or become, larger than the limit: 100 MiB plain, 256 MiB from 250 KiB."""
    plain, expanded = bytes(100 * 2**20), bytes(256 * 2**20)
    coded = {"gzip": gzip.compress(expanded, 6), "deflate": zlib.compress(expanded, 6)}
    found: dict[str, Http | Grpc] = {}
    for protocol, path in (("oip", INFER), ("tfs", PREDICT), ("ts", FILES)):
        found[f"{protocol}_http-plain"] = Http(path, plain, 413, TOO_LARGE)
        for coding, body in coded.items():
            found[f"{protocol}_http-{coding}"] = Http(
                path, body, 413, TOO_LARGE, {"Content-Encoding": coding}
            )
    for method in (OIP, TFS, TS):
        found[f"{method}-plain"] = Grpc(method, plain, "RESOURCE_EXHAUSTED", ("larger than max",))
        gzipped = grpc.Compression.Gzip
        found[f"{method}-gzip"] = Grpc(method, plain, "RESOURCE_EXHAUSTED", ("larger than max",), gzipped)
    return found
