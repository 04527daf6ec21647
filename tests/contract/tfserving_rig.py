"""Small models, and a client of the stand-in that speaks our messages."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import grpc

from services.protocol import tfserving_pb2 as pb
from tests.serving import ROOT, VENVS

VENV = VENVS / "tensorflow"
WAIT_SECONDS = 30.0

# Two versions that differ in `scale`; numbers, strings, and an index that can make a lookup fail inside.
SAVED_MODELS = """
import sys, tensorflow as tf
for version, scale in ((1, 2.0), (2, 3.0)):
    module = tf.Module()
    module.table = tf.Variable([[1.0], [2.0], [3.0]], trainable=False)
    @tf.function(input_signature=[
        tf.TensorSpec([None, 2], tf.float32, name="values"),
        tf.TensorSpec([None, 1], tf.string, name="text"),
        tf.TensorSpec([None, 1], tf.int64, name="index"),
    ])
    def serve(values, text, index):
        return {
            "scaled": values * scale,
            "shout": tf.strings.upper(text),
            "row": tf.gather(module.table, index[:, 0]),
        }
    tf.saved_model.save(module, f"{sys.argv[1]}/{version}", signatures=serve)
"""
MODELS_CONFIG = """
model_config_list {
  config {
    name: "both" base_path: "/models/both" model_platform: "tensorflow"
    model_version_policy { all { } } version_labels { key: "stable" value: 1 }
  }
  config { name: "newest" base_path: "/models/newest" model_platform: "tensorflow" }
}
"""


def made_models(script: str) -> Path:
    """The folder that the script writes to; made once for each text of it: TensorFlow takes seconds."""
    folder = ROOT / "build" / "tests" / hashlib.sha256(script.encode()).hexdigest()[:12]
    if not folder.exists():
        making = folder.with_suffix(f".{os.getpid()}")
        making.mkdir(parents=True)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        argv = [str(VENV / "bin" / "python"), "-c", script, str(making)]
        subprocess.run(argv, check=True, env=environment, cwd=ROOT, capture_output=True)
        making.rename(folder)
    return folder


class Server:
    """A running stand-in, called with our messages."""

    def __init__(self, address: str, models: Path) -> None:
        self.address = address
        self.models = models
        self._channel = grpc.insecure_channel(address)

    def call(self, path: str, request: Any, reply: Any) -> Any:
        method: Any = self._channel.unary_unary(
            f"/tensorflow.serving.{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return method(request, timeout=WAIT_SECONDS)

    def predict(self, model: str, **spec: Any) -> Any:
        request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model, **spec))
        request.inputs["values"].CopyFrom(floats([1, 2], 1.0, 2.0))
        request.inputs["text"].CopyFrom(proto(pb.DT_STRING, [1, 1], string_val=[b"hi"]))
        request.inputs["index"].CopyFrom(proto(pb.DT_INT64, [1, 1], int64_val=[1]))
        return self.send(request)

    def send(self, request: pb.PredictRequest) -> Any:
        return self.call("PredictionService/Predict", request, pb.PredictResponse)

    def reload(self, config: pb.ModelServerConfig) -> None:
        request = pb.ReloadConfigRequest(config=config)
        self.call("ModelService/HandleReloadConfigRequest", request, pb.ReloadConfigResponse)

    def states(self, model: str) -> dict[int, str]:
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model))
        reply = self.call("ModelService/GetModelStatus", request, pb.GetModelStatusResponse)
        return {
            each.version: pb.ModelVersionStatus.State.Name(each.state) for each in reply.model_version_status
        }

    def close(self) -> None:
        self._channel.close()


def proto(dtype: Any, shape: list[int], **values: Any) -> pb.TensorProto:
    made = pb.TensorProto(dtype=dtype, **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def floats(shape: list[int], *values: float) -> pb.TensorProto:
    return proto(pb.DT_FLOAT, shape, float_val=values)


def spoilt(**change: Any) -> pb.PredictRequest:
    """A good request with inputs replaced, or (None) left out."""
    inputs = {
        "values": floats([1, 2], 1.0),
        "text": proto(pb.DT_STRING, [1, 1], string_val=[b"a"]),
        "index": proto(pb.DT_INT64, [1, 1], int64_val=[0]),
        **{name: value for name, value in change.items() if isinstance(value, (pb.TensorProto, type(None)))},
    }
    request = pb.PredictRequest(output_filter=change.get("outputs", ()))
    request.model_spec.name = change.get("model", "both")
    request.model_spec.signature_name = change.get("signature", "")
    for name, value in inputs.items():
        if value is not None:
            request.inputs[name].CopyFrom(value)
    return request
