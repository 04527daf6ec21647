"""What the TF Serving stand-in makes of `model.tflite`, with `--prefer_tflite_model` and without."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.launch import Running, free_port
from services.protocol import tfserving_pb2 as pb
from services.tfserving.run import launch
from tests.contract.tfserving_rig import VENV, Server, floats, made_models, proto

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not VENV.exists(), reason="needs .venvs/tensorflow"),
]

# `alone` has model.tflite only; `both` also a SavedModel that multiplies by another number; `raw` the
# converter's own names.
MODELS = """
import pathlib, shutil, sys, tensorflow as tf
from services.tfserving.tensor_names import name_tensors
out = pathlib.Path(sys.argv[1])
for folder, scale in (("lite", 2.0), ("both/1", 3.0)):
    module = tf.Module()
    module.weights = tf.Variable([[scale], [1.0]], trainable=False)
    @tf.function(input_signature=[
        tf.TensorSpec([None, 2], tf.float32, name="values"),
        tf.TensorSpec([None, 1], tf.int64, name="index"),
    ])
    def serve(values, index):
        return {"weighed": values @ module.weights, "next": index + 1}
    module.serve = serve
    tf.saved_model.save(module, str(out / folder), signatures=serve)
lite = tf.lite.TFLiteConverter.from_saved_model(str(out / "lite")).convert()
shutil.rmtree(out / "lite")
for folder in ("raw/1", "alone/1", "both/1"):
    path = out / folder / "model.tflite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lite)
    if folder != "raw/1":
        name_tensors(path)
        named = path.read_bytes()
        name_tensors(path)
        assert path.read_bytes() == named
configs = [f'config {{ name: "{name}" base_path: "/models/{name}" }}' for name in ("raw", "alone", "both")]
(out / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
"""


def start(run_dir: Path, *, prefers_lite: bool) -> Iterator[Server]:
    models = made_models(MODELS)
    started = launch(
        models_config=models / "models.config",
        models_root=models,
        run_dir=run_dir,
        port=free_port(),
        venv=VENV,
    )
    if not prefers_lite:
        argv = [argument.replace("tflite_model=true", "tflite_model=false") for argument in started.argv]
        started = replace(started, argv=argv, is_ready=lambda: ready(started.addresses["grpc"]))
    with Running(started):
        client = Server(started.addresses["grpc"], models)
        yield client
        client.close()


def ready(address: str) -> bool:
    """Whether the one model that has a SavedModel is there."""
    client = Server(address, Path())
    try:
        return client.states("both") == {1: "AVAILABLE"}
    except grpc.RpcError:
        return False
    finally:
        client.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from start(tmp_path_factory.mktemp("run"), prefers_lite=True)


def asked(model: str, values: np.ndarray, **spec: Any) -> pb.PredictRequest:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model, **spec))
    request.inputs["values"].CopyFrom(floats(list(values.shape), *values.ravel()))
    index = range(len(values))
    request.inputs["index"].CopyFrom(proto(pb.DT_INT64, [len(values), 1], int64_val=index))
    return request


def weighed(server: Server, model: str, values: np.ndarray) -> list[float]:
    return list(server.send(asked(model, values)).outputs["weighed"].float_val)


@pytest.mark.parametrize("rows", [1, 5, 64, 2])
def test_a_folder_with_a_lite_model_alone_answers_a_batch_of_any_size(server: Server, rows: int) -> None:
    values = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    reply = server.send(asked("alone", values))
    assert list(reply.outputs["weighed"].float_val) == (values @ [2, 1]).tolist()
    assert [dim.size for dim in reply.outputs["weighed"].tensor_shape.dim] == [rows, 1]
    assert list(reply.outputs["next"].int64_val) == list(range(1, rows + 1))
    assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (1, "serving_default")


def test_a_lite_model_takes_the_place_of_the_saved_model_beside_it(server: Server) -> None:
    assert weighed(server, "both", np.array([[10.0, 1.0]])) == [21.0]
    assert server.states("both") == {1: "AVAILABLE"}


def test_without_the_flag_only_saved_models_are_loaded(tmp_path: Path) -> None:
    for server in start(tmp_path, prefers_lite=False):
        assert weighed(server, "both", np.array([[10.0, 1.0]])) == [31.0]
        assert server.states("alone") == {1: "LOADING"}  # it failed, and will be tried again


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        ("alone", {"values", "index"}, {"weighed", "next"}),
        ("raw", {"serving_default_values", "serving_default_index"}, {"PartitionedCall"}),
    ],
)
def test_the_signature_has_the_files_own_tensor_names_without_what_follows_a_colon(
    server: Server, model: str, inputs: set[str], outputs: set[str]
) -> None:
    request = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    reply = server.call("PredictionService/GetModelMetadata", request, pb.GetModelMetadataResponse)
    signatures = pb.SignatureDefMap.FromString(reply.metadata["signature_def"].value).signature_def
    signature = signatures["serving_default"]
    assert (set(signatures), set(signature.inputs)) == ({"serving_default"}, inputs)
    assert outputs <= {name.removeprefix("Stateful") for name in signature.outputs}
    (first,) = (info for name, info in signature.inputs.items() if "values" in name)
    assert (first.dtype, [dim.size for dim in first.tensor_shape.dim]) == (pb.DT_FLOAT, [1, 2])


def test_a_bad_request_is_refused_and_the_next_good_one_answered(server: Server) -> None:
    good = asked("alone", np.array([[1.0, 2.0]]))
    missing, wrong_type, wrong_shape = (
        pb.PredictRequest.FromString(good.SerializeToString()) for _ in range(3)
    )
    del missing.inputs["index"]
    wrong_type.inputs["values"].CopyFrom(proto(pb.DT_DOUBLE, [1, 2], double_val=[1.0]))
    wrong_shape.inputs["values"].CopyFrom(floats([1, 3], 1.0))
    for request, code, text in (
        (missing, "INVALID_ARGUMENT", "Missing but required: {index}."),
        (wrong_type, "INVALID_ARGUMENT", "Expects arg[1] to be float but double is provided"),
        (wrong_shape, "INTERNAL", "Failed to allocate tensors"),
        (asked("alone", np.ones((1, 2)), signature_name="x"), "FAILED_PRECONDITION", 'key "x" not found.'),
        (asked("nothing", np.ones((1, 2))), "NOT_FOUND", "Servable not found for request: Latest(nothing)"),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            server.send(request)
        error: Any = raised.value
        assert error.code().name == code
        assert error.details().endswith(text)
        assert server.send(good).outputs["weighed"].float_val == [4.0]
