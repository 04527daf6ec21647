"""Public clients of TF Serving's protocols: the gateway answers them as the stand-in does."""

import json
import os
import subprocess
from typing import Any

import numpy as np
import pytest

from tests.serving import BUILT, VENVS, Engine, StartedGateway, heldout

PYTHON = VENVS / "tensorflow" / "bin" / "python"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs .venvs/tensorflow"),
    pytest.mark.skipif(not (BUILT / "tfserving").exists(), reason="needs `make models`"),
]

# Google's own classes and stubs (tensorflow-serving-api), and the lines that everybody has copied for REST.
OFFICIAL = """
import json, sys
import grpc, numpy as np, requests, tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

address, rest = sys.argv[1:]
images = np.array(json.load(sys.stdin), np.float32)
channel = grpc.insecure_channel(address)
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
answers = {}

def predict(tensor, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.get("name", "cnn_mnist")
    request.model_spec.signature_name = "serving_default"
    request.inputs[spec.get("input", "image")].CopyFrom(tensor)
    try:
        reply = prediction.Predict(request, 30.0)
    except grpc.RpcError as error:
        return [error.code().name, error.details() if spec.get("words") else ""]
    output = reply.outputs["probabilities"]
    assert len(output.float_val) == tf.make_ndarray(output).size
    return [reply.model_spec.version.value, tf.make_ndarray(output).tolist()]

answers["content"] = predict(tf.make_tensor_proto(images))
typed = tf.make_tensor_proto(images)
typed.float_val.extend(np.frombuffer(typed.tensor_content, np.float32).tolist())
typed.ClearField("tensor_content")
answers["typed"] = predict(typed)
answers["filled"] = predict(tf.make_tensor_proto(0.5, shape=[1, 28, 28, 1], dtype=tf.float32))
answers["unknown model"] = predict(tf.make_tensor_proto(images), name="none", words=True)
answers["wrong input"] = predict(tf.make_tensor_proto(images), input="picture")
answers["wrong datatype"] = predict(tf.make_tensor_proto(images.astype(np.float64)))
answers["wrong shape"] = predict(tf.make_tensor_proto(images[0]))

request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
request.model_spec.name = "cnn_mnist"
signatures = get_model_metadata_pb2.SignatureDefMap()
assert prediction.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
signature = signatures.signature_def["serving_default"]
answers["signature"] = [
    [name, info.dtype, [dim.size for dim in info.tensor_shape.dim]]
    for name, info in [*signature.inputs.items(), *signature.outputs.items()]
]
request = get_model_status_pb2.GetModelStatusRequest()
request.model_spec.name = "cnn_mnist"
(status,) = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request).model_version_status
answers["status"] = [status.version, status.state, status.status.error_code]

if rest:
    url = f"http://{rest}/v1/models/cnn_mnist"
    instances = [{"image": image.tolist()} for image in images]
    named = requests.post(f"{url}:predict", json={"instances": instances})
    answers["rest named"] = [1, named.json()["predictions"]]
    plain = requests.post(f"{url}/versions/1:predict", json={"instances": images.tolist()})
    answers["rest plain"] = [1, plain.json()["predictions"]]
    columns = requests.post(f"{url}/labels/stable:predict", json={"inputs": images.tolist()})
    answers["rest columns"] = [1, columns.json()["outputs"]]
print(json.dumps(answers))
"""


def official(images: Any, address: str, rest: str = "") -> dict[str, Any]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [str(PYTHON), "-c", OFFICIAL, address, rest],
        input=json.dumps(images.tolist()),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_the_official_client_sees_no_difference_between_stand_in_and_gateway(
    tfserving: Engine, embedded_gateway: StartedGateway
) -> None:
    images = heldout()[0][:3]
    engine = official(images, tfserving.endpoint["address"])
    gateway = official(images, embedded_gateway.grpc, embedded_gateway.http)
    expected = engine["content"][1]
    for predicted in ("content", "typed", "rest named", "rest plain", "rest columns"):
        version, probabilities = gateway.pop(predicted)
        assert version == 1
        assert np.allclose(probabilities, expected, atol=1e-4), predicted
    assert np.allclose(gateway.pop("filled")[1], engine.pop("filled")[1], atol=1e-4)
    assert gateway == {name: answer for name, answer in engine.items() if name in gateway}
    assert gateway["unknown model"] == ["NOT_FOUND", "Servable not found for request: Latest(none)"]


@pytest.fixture
def ovmsclient() -> Any:
    return pytest.importorskip("ovmsclient")


def knows_the_digits(client: Any, ovmsclient: Any) -> None:
    """Its version 0, which it sends unless told otherwise, means the default version."""
    images, labels = heldout()
    for version in (0, 1):
        probabilities = client.predict({"image": images[:8]}, "cnn_mnist", model_version=version)
        assert probabilities.argmax(axis=1).tolist() == labels[:8].tolist()
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
        client.predict({"image": images[:8]}, "none")


def test_ovmsclient_over_grpc(embedded_gateway: StartedGateway, ovmsclient: Any) -> None:
    client = ovmsclient.make_grpc_client(embedded_gateway.grpc)
    knows_the_digits(client, ovmsclient)
    inputs = client.get_model_metadata("cnn_mnist")["inputs"]
    assert inputs == {"image": {"shape": [-1, 28, 28, 1], "dtype": "DT_FLOAT"}}
    assert client.get_model_status("cnn_mnist")[1]["state"] == "AVAILABLE"


def test_ovmsclient_over_http(embedded_gateway: StartedGateway, ovmsclient: Any) -> None:
    client = ovmsclient.make_http_client(embedded_gateway.http)
    knows_the_digits(client, ovmsclient)
    assert client.get_model_metadata("cnn_mnist")["model_spec"]["name"] == "cnn_mnist"
    assert client.get_model_status("cnn_mnist")[1]["state"] == "AVAILABLE"
    client.session.close()
