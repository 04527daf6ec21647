"""Our minimal messages against the official classes, which live in `.venvs/tensorflow`: the same bytes."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from services.protocol import tfserving_pb2 as pb

VENV = Path(__file__).parents[2] / ".venvs" / "tensorflow"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not VENV.exists(), reason="needs .venvs/tensorflow"),
]

SPEC = 'model_spec { name: "m" version { value: 7 } signature_name: "serving_default" }'
SHAPE = "tensor_shape { dim { size: 2 name: 'rows' } dim { size: -1 } }"
TENSORS = {
    "content": f"dtype: DT_FLOAT {SHAPE} tensor_content: '\\000\\001\\377' version_number: 1",
    "float": f"dtype: DT_FLOAT {SHAPE} float_val: [1.5, nan, -inf]",
    "double": f"dtype: DT_DOUBLE {SHAPE} double_val: [1e300, -0.0]",
    "half": f"dtype: DT_HALF {SHAPE} half_val: [15360, 0]",
    "bfloat16": f"dtype: DT_BFLOAT16 {SHAPE} half_val: [16256]",
    "int32": f"dtype: DT_INT32 {SHAPE} int_val: [-1, 2147483647]",
    "int16": f"dtype: DT_INT16 {SHAPE} int_val: -3",
    "int8": f"dtype: DT_INT8 {SHAPE} int_val: -4",
    "uint8": f"dtype: DT_UINT8 {SHAPE} int_val: 255",
    "uint16": f"dtype: DT_UINT16 {SHAPE} int_val: 65535",
    "uint32": f"dtype: DT_UINT32 {SHAPE} uint32_val: 4294967295",
    "uint64": f"dtype: DT_UINT64 {SHAPE} uint64_val: 18446744073709551615",
    "int64": f"dtype: DT_INT64 {SHAPE} int64_val: [-9223372036854775808, 5]",
    "bool": f"dtype: DT_BOOL {SHAPE} bool_val: [true, false]",
    "string": f"dtype: DT_STRING {SHAPE} string_val: ['a', '\\377']",
    "unknown": "dtype: DT_VARIANT tensor_shape { unknown_rank: true }",
}
INPUTS = "\n".join(f'inputs {{ key: "{name}" value {{ {text} }} }}' for name, text in TENSORS.items())
SIGNATURE = """signature_def { key: "serving_default" value {
    inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size: -1 } } } }
    outputs { key: "y" value { name: "y:0" dtype: DT_STRING } } method_name: "tensorflow/serving/predict"
} }"""
STATUS = "model_version_status { version: 3 state: %s status { error_code: %s error_message: 'text' } }"
MODELS_CONFIG = """model_config_list {
  config { name: "a" base_path: "/models/a" model_platform: "tensorflow"
    model_version_policy { specific { versions: [1, 42] } } version_labels { key: "stable" value: 1 } }
  config { name: "b" model_version_policy { latest { num_versions: 2 } } }
  config { name: "c" model_version_policy { all { } } }
}"""
MESSAGES: list[tuple[str, str]] = [
    ("apis.predict.PredictRequest", f"{SPEC} {INPUTS} output_filter: ['y', 'z']"),
    ("apis.predict.PredictRequest", "model_spec { name: 'm' version_label: 'stable' }"),
    ("apis.predict.PredictResponse", f"{SPEC} {INPUTS.replace('inputs {', 'outputs {')}"),
    ("apis.get_model_metadata.GetModelMetadataRequest", f"{SPEC} metadata_field: 'signature_def'"),
    (
        "apis.get_model_metadata.GetModelMetadataResponse",
        f"{SPEC} metadata {{ key: 'signature_def' value {{ type_url: 'a.b/x' value: 'v' }} }}",
    ),
    ("apis.get_model_metadata.SignatureDefMap", SIGNATURE),
    ("apis.get_model_status.GetModelStatusRequest", SPEC),
    *(
        ("apis.get_model_status.GetModelStatusResponse", STATUS % (state, code))
        for state in ("START", "LOADING", "AVAILABLE", "UNLOADING", "END")
        for code in (0, 2)
    ),
    ("config.model_server_config.ModelServerConfig", MODELS_CONFIG),
    ("apis.model_management.ReloadConfigRequest", f"config {{ {MODELS_CONFIG} }}"),
    ("apis.model_management.ReloadConfigResponse", "status { error_message: 'x' }"),
]

OFFICIAL = """
import importlib, json, sys
from google.protobuf import text_format
answers = []
for name, text in json.load(sys.stdin):
    module, _, cls = name.rpartition(".")
    message = getattr(importlib.import_module(f"tensorflow_serving.{module}_pb2"), cls)()
    text_format.Parse(text, message)
    answers.append(message.SerializeToString(deterministic=True).hex())
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def official() -> list[str]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [str(VENV / "bin" / "python"), "-c", OFFICIAL],
        input=json.dumps(MESSAGES),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    answers: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("position", range(len(MESSAGES)))
def test_our_bytes_are_the_official_bytes(official: list[str], position: int) -> None:
    name, text = MESSAGES[position]
    message: Any = getattr(pb, name.rpartition(".")[2])()
    text_format.Parse(text, message)
    ours = message.SerializeToString(deterministic=True)
    assert ours.hex() == official[position]
    assert type(message).FromString(bytes.fromhex(official[position])) == message or "nan" in text
