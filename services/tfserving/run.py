"""Start the stand-in without Docker: `python -m services.tfserving.run --help`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from google.protobuf import text_format

from services.launch import Launch
from services.protocol.tfserving_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelServerConfig,
    ModelVersionStatus,
)

ROOT = Path(__file__).parents[2]
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
READY_TIMEOUT_SECONDS = 2.0
THREADS = 1
"""Of each TensorFlow operation, and operations at a time: many small requests gain nothing from more."""
PYTHON_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONUNBUFFERED": "1",
}


def launch(
    *, models_config: Path, models_root: Path, run_dir: Path, port: int, host: str = "127.0.0.1", venv: Path
) -> Launch:
    """One stand-in server; ready when every model of the configuration has an available version.

    Args:
        models_config: the models.config that containers have too.
        models_root: the folder that is /models in a container.
        run_dir: where its log goes.
        port: of its gRPC.
        host: the address to listen on.
        venv: the environment that has TensorFlow.

    Raises:
        OSError: the configuration cannot be read.
        google.protobuf.text_format.ParseError: it is no ModelServerConfig.
    """
    config = text_format.Parse(
        models_config.read_text(), ModelServerConfig(), allow_unknown_field=True
    ).model_config_list.config
    address = f"{host}:{port}"
    argv = [
        str(venv / "bin" / "python"),
        "-m",
        "services.tfserving.server",
        f"--port={port}",
        f"--host={host}",
        f"--model_config_file={models_config.resolve()}",
        f"--models-root={models_root.resolve()}",
        "--model_config_file_poll_wait_seconds=5",
        "--file_system_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        "--prefer_tflite_model=true",
        f"--tensorflow_intra_op_parallelism={THREADS}",
        f"--tensorflow_inter_op_parallelism={THREADS}",
    ]
    return Launch(
        name="tfserving (stand-in)",
        argv=argv,
        is_ready=lambda: is_available(address, [model.name for model in config]),
        log=run_dir / "tfserving.log",
        env=PYTHON_ENVIRONMENT,
        cwd=ROOT,
        addresses={"grpc": address},
    )


def is_available(address: str, models: list[str]) -> bool:
    """Whether every model has a version that is AVAILABLE; false when nobody answers."""
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        status = channel.unary_unary(
            GET_MODEL_STATUS,
            request_serializer=GetModelStatusRequest.SerializeToString,
            response_deserializer=GetModelStatusResponse.FromString,
        )
        for model in models:
            request = GetModelStatusRequest()
            request.model_spec.name = model
            try:
                reply = status(request, timeout=READY_TIMEOUT_SECONDS)
            except grpc.RpcError:
                return False
            states = {version.state for version in reply.model_version_status}
            if ModelVersionStatus.AVAILABLE not in states:
                return False
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Become the server, in the foreground; SIGTERM or Ctrl-C ends it."""
    parser = argparse.ArgumentParser(prog="python -m services.tfserving.run", description=main.__doc__)
    built = ROOT / "build" / "models"
    parser.add_argument("--models-config", type=Path, default=built / "tfserving" / "models.config")
    parser.add_argument("--models-root", type=Path, default=built, help="the folder that is /models")
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venvs" / "tensorflow")
    try:
        started = launch(**vars(parser.parse_args(argv)), run_dir=ROOT / "run" / "tfserving")
    except OSError as error:
        sys.stderr.write(f"{error}; run `make models`\n")
        return 1
    os.chdir(ROOT)
    return os.execve(started.argv[0], list(started.argv), {**os.environ, **started.env})  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
