"""One digit over every protocol, from the embedded engine: the main job of `make up`."""

import json
import urllib.request

import grpc
import numpy as np

from services.protocol import open_inference_pb2 as oip
from services.protocol import tfserving_pb2 as tfs
from services.protocol import torchserve_pb2 as ts
from tests.serving import MODEL, ROOT, StartedGateway, heldout

EXAMPLE = ROOT / "models" / MODEL / "example.png"


def _post(url: str, body: bytes, method: str = "POST") -> tuple[dict[str, str], bytes]:
    request = urllib.request.Request(url, body, method=method)  # noqa: S310 - http only
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
        return {name.lower(): value for name, value in reply.headers.items()}, reply.read()


def _most_probable(answer: dict[str, float]) -> str:
    return max(answer, key=answer.__getitem__)


def test_every_rest_protocol_recognises_the_same_digit(embedded_gateway: StartedGateway) -> None:
    images, labels = heldout()
    image, label = images[:1], int(labels[0])
    http = f"http://{embedded_gateway.http}"
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": image.ravel().tolist()}
    _, body = _post(f"{http}/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}).encode())
    oip_row = json.loads(body)["outputs"][0]["data"]
    instances = {"instances": [{"image": image[0].tolist()}]}
    _, body = _post(f"{http}/v1/models/{MODEL}:predict", json.dumps(instances).encode())
    tfs_row = json.loads(body)["predictions"][0]
    assert int(np.argmax(oip_row)) == int(np.argmax(tfs_row)) == label
    np.testing.assert_allclose(oip_row, tfs_row, atol=1e-6)
    headers, body = _post(f"{http}/predictions/{MODEL}", EXAMPLE.read_bytes(), "PUT")
    assert _most_probable(json.loads(body)) == "7"
    assert headers["x-inferway-backend"] == "onnxruntime"


def test_every_grpc_protocol_recognises_the_same_digit(embedded_gateway: StartedGateway) -> None:
    images, labels = heldout()
    image, label = images[1:2], int(labels[1])
    with grpc.insecure_channel(embedded_gateway.grpc) as channel:
        tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
        asked = oip.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[image.tobytes()])
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        oip_row = np.frombuffer(infer(asked).raw_output_contents[0], "<f4")
        predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=tfs.PredictRequest.SerializeToString,
            response_deserializer=tfs.PredictResponse.FromString,
        )
        shape = tfs.TensorShapeProto(dim=[tfs.TensorShapeProto.Dim(size=n) for n in (1, 28, 28, 1)])
        proto = tfs.TensorProto(dtype=tfs.DT_FLOAT, tensor_shape=shape, float_val=image.ravel().tolist())
        request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name=MODEL), inputs={"image": proto})
        tfs_row = np.array(predict(request).outputs["probabilities"].float_val, np.float32)
        predictions = channel.unary_unary(
            "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
            request_serializer=ts.PredictionsRequest.SerializeToString,
            response_deserializer=ts.PredictionResponse.FromString,
        )
        reply = predictions(ts.PredictionsRequest(model_name=MODEL, input={"data": EXAMPLE.read_bytes()}))
    assert int(np.argmax(oip_row)) == int(np.argmax(tfs_row)) == label
    np.testing.assert_array_equal(oip_row, tfs_row)
    assert _most_probable(json.loads(reply.prediction)) == "7"
