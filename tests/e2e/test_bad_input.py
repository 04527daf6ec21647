"""Bad input over every protocol, while good requests run: refused by name, no backend asked, nobody harmed."""

import asyncio
import gzip
import http.client
import json
from typing import Any

import grpc
import pytest

from services.protocol import open_inference_pb2 as oip
from services.protocol import tfserving_pb2 as tfs
from services.protocol import torchserve_pb2 as ts
from tests.load import distinct_images, drive
from tests.serving import MODEL, StartedGateway

MEBIBYTE = 2**20
OIP = f"/v2/models/{MODEL}/infer"
TFSERVING = f"/v1/models/{MODEL}:predict"
TORCHSERVE = f"/predictions/{MODEL}"
SHAPE = [1, 28, 28, 1]
IMAGE = [[[[0]] * 28] * 28]
ZEROS = [0] * 784
LARGE = bytes(100 * MEBIBYTE)
BOMB = gzip.compress(bytes(200 * MEBIBYTE), 1)
ZIPPED = {"content-encoding": "gzip"}
GOOD = 300


def oip_json(**changes: Any) -> bytes:
    tensor = {"name": "image", "datatype": "FP32", "shape": SHAPE, "data": ZEROS, **changes}
    return json.dumps({"inputs": [tensor]}).encode()


def oip_binary(size: int) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "image", "datatype": "FP32", "shape": SHAPE, "parameters": {"binary_data_size": size}}
    header = json.dumps({"inputs": [tensor]}).encode()
    return header + bytes(size), {"inference-header-content-length": str(len(header))}


def instances(*images: Any, name: str = "image") -> bytes:
    return json.dumps({"instances": [{name: image} for image in images]}).encode()


HTTP: list[tuple[str, bytes, dict[str, str], int, str]] = [
    (OIP, oip_json(name="picture"), {}, 400, "tensor 'picture': expected the inputs ['image'], got"),
    (OIP, oip_json(datatype="INT64"), {}, 400, "tensor 'image': expected datatype FP32, got INT64"),
    (OIP, oip_json(shape=[1, 784]), {}, 400, "expected shape [-1, 28, 28, 1], got shape [1, 784]"),
    (OIP, oip_json(data=ZEROS[1:]), {}, 400, "tensor 'image': expected 784 elements for shape"),
    (OIP, *oip_binary(3135), 400, "tensor 'image': expected 3136 bytes for FP32 [1, 28, 28, 1], got 3135"),
    (OIP, oip_json(shape=[65, 28, 28, 1], data=ZEROS * 65), {}, 400, "a batch of 1 to 64, got a batch of 65"),
    (OIP, b"{", {}, 400, "not JSON"),
    (OIP.replace(MODEL, "nope"), oip_json(), {}, 404, "'nope'"),
    (OIP.replace("/infer", "/versions/9/infer"), oip_json(), {}, 404, "no version '9' (it has: 1)"),
    (TFSERVING, instances(IMAGE[0], name="picture"), {}, 400, "does not have named input: picture"),
    (TFSERVING, instances([["a"]]), {}, 400, "tensor 'image': expected FP32, got JSON Value: \"a\""),
    (TFSERVING, instances([[1, 2]]), {}, 400, "expected shape [-1, 28, 28, 1], got shape [1, 1, 2]"),
    (TFSERVING, instances([[1, 2], [1]]), {}, 400, "tensor 'image': expected lists of 2"),
    (TFSERVING, instances(*(IMAGE * 65)), {}, 400, "a batch of 1 to 64, got a batch of 65"),
    (TFSERVING, b"{", {}, 400, "JSON Parse error"),
    (TFSERVING.replace(MODEL, "nope"), instances(IMAGE[0]), {}, 404, "Latest(nope)"),
    (TFSERVING.replace(":", "/versions/9:"), instances(IMAGE[0]), {}, 404, f"Specific({MODEL}, 9)"),
    (TFSERVING.replace(":", "/labels/old:"), instances(IMAGE[0]), {}, 400, "version label: old"),
    (TORCHSERVE, b"not an image", {}, 400, "image: expected a PNG"),
    (TORCHSERVE, b"[1, 2]", {"content-type": "application/json"}, 400, "got shape [1, 2]"),
    (TORCHSERVE, b"{", {"content-type": "application/json"}, 400, "not JSON"),
    (TORCHSERVE.replace(MODEL, "nope"), b"x", {}, 404, "Model not found: nope"),
    (f"{TORCHSERVE}/9", b"x", {}, 404, "ModelVersionNotFoundException"),
    *((path, LARGE, {}, 413, "larger than the limit") for path in (OIP, TFSERVING, TORCHSERVE)),
    *((path, BOMB, ZIPPED, 413, "larger than the limit") for path in (OIP, TFSERVING, TORCHSERVE)),
]


def oip_message(**fields: Any) -> oip.ModelInferRequest:
    tensor = {"name": "image", "datatype": "FP32", "shape": SHAPE, **fields.pop("tensor", {})}
    defaults = {"model_name": MODEL, "raw_input_contents": [bytes(3136)]}
    inputs = [oip.ModelInferRequest.InferInputTensor(**tensor)]
    return oip.ModelInferRequest(inputs=inputs, **{**defaults, **fields})


def predict(
    data: bytes = bytes(3136), *, shape: Any = SHAPE, dtype: Any = tfs.DT_FLOAT, **fields: Any
) -> tfs.PredictRequest:
    sizes = [tfs.TensorShapeProto.Dim(size=size) for size in shape]
    proto = tfs.TensorProto(dtype=dtype, tensor_shape=tfs.TensorShapeProto(dim=sizes), tensor_content=data)
    spec = tfs.ModelSpec(name=fields.get("model", MODEL), version_label=fields.get("label", ""))
    if "version" in fields:
        spec.version.value = fields["version"]
    return tfs.PredictRequest(model_spec=spec, inputs={fields.get("name", "image"): proto})


def predictions(data: bytes, model: str = MODEL, version: str = "") -> ts.PredictionsRequest:
    return ts.PredictionsRequest(model_name=model, model_version=version, input={"data": data})


INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
INVALID, NOT_FOUND, EXHAUSTED = "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"
GRPC: list[tuple[str, Any, str, str]] = [
    (INFER, oip_message(tensor={"name": "picture"}), INVALID, "'picture': expected the inputs ['image']"),
    (INFER, oip_message(tensor={"datatype": "INT64"}), INVALID, "expected datatype FP32, got INT64"),
    (INFER, oip_message(tensor={"shape": [1, 784]}), INVALID, "expected shape [-1, 28, 28, 1], got shape"),
    (INFER, oip_message(raw_input_contents=[bytes(9)]), INVALID, "tensor 'image': expected 3136 bytes"),
    (INFER, oip_message(tensor={"shape": [65, 28, 28, 1]}), INVALID, "got a batch of 65"),
    (INFER, oip_message(model_name="nope"), NOT_FOUND, "'nope'"),
    (INFER, oip_message(model_version="9"), NOT_FOUND, "no version '9'"),
    (PREDICT, predict(name="picture"), INVALID, "'picture': expected the inputs ['image']"),
    (PREDICT, predict(dtype=tfs.DT_INT64), INVALID, "expected datatype FP32, got INT64"),
    (PREDICT, predict(shape=[1, 784]), INVALID, "expected shape [-1, 28, 28, 1], got shape [1, 784]"),
    (PREDICT, predict(bytes(9)), INVALID, "tensor 'image': expected 3136 bytes"),
    (PREDICT, predict(shape=[65, 28, 28, 1]), INVALID, "got a batch of 65"),
    (PREDICT, predict(model="nope"), NOT_FOUND, "Latest(nope)"),
    (PREDICT, predict(version=9), NOT_FOUND, f"Specific({MODEL}, 9)"),
    (PREDICT, predict(label="old"), INVALID, "version label: old"),
    (PREDICTIONS, predictions(b"not an image"), INVALID, "image: expected a PNG"),
    (PREDICTIONS, predictions(b"x", model="nope"), NOT_FOUND, "Model not found: nope"),
    (PREDICTIONS, predictions(b"x", version="9"), NOT_FOUND, "no version '9'"),
    (INFER, oip_message(raw_input_contents=[LARGE]), EXHAUSTED, "larger than max"),
    (PREDICT, predict(LARGE), EXHAUSTED, "larger than max"),
    (PREDICTIONS, predictions(LARGE), EXHAUSTED, "larger than max"),
]


def post(address: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()).__str__()
    finally:
        connection.close()


def call(address: str, path: str, message: Any, compression: grpc.Compression) -> tuple[str, str]:
    unlimited = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=unlimited, compression=compression) as channel:
        method = channel.unary_unary(path, request_serializer=type(message).SerializeToString)
        with pytest.raises(grpc.RpcError) as caught:
            method(message, timeout=60)
    error: Any = caught.value
    return error.code().name, error.details()


async def test_bad_input_is_refused_in_its_protocols_words_and_nobody_notices(
    embedded_gateway: StartedGateway,
) -> None:
    attempts = "gateway_attempt_duration_seconds_count"
    before = embedded_gateway.metric(attempts)
    good = asyncio.create_task(drive(embedded_gateway.http, distinct_images(GOOD, seed=11), connections=2))
    wrong = []
    for path, body, headers, status, words in HTTP:
        answer = await asyncio.to_thread(post, embedded_gateway.http, path, body, headers)
        if answer[0] != status or words not in answer[1]:
            wrong.append((path, status, words, answer))
    for path, message, code, words in GRPC:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            said = await asyncio.to_thread(call, embedded_gateway.grpc, path, message, compression)
            if said[0] != code or words not in said[1]:
                wrong.append((path, code, words, said))
    outcome = await good
    assert wrong == []
    assert outcome.failed == {}
    assert embedded_gateway.metric(attempts) - before == GOOD
