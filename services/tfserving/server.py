"""A stand-in for `tensorflow_model_server`: the real services over gRPC, TensorFlow itself behind them.

The real binary is in no package registry: containers run it, machines without them run this. What it has and
lacks is in README.md. `python -m services.tfserving.server --help`.
"""

import logging
import signal
import sys
import threading
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf.text_format import ParseError

from services.tfserving import flags, lite_model
from services.tfserving.lite_model import LiteModel
from services.tfserving.models_config import read_configs
from services.tfserving.saved_model import SavedModel
from services.tfserving.servables import Servables, ServingError
from services.tfserving.servicers import ModelService, PredictionService
from services.tfserving.signatures import Model

log = logging.getLogger("tfserving")
STOP_SECONDS = 2.0
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, and not share it
)


def watch(servables: Servables[Model], options: Namespace, stopped: threading.Event) -> None:
    """Poll base paths, and the configuration where its flag says so, until stopped."""
    files, config = options.file_system_poll_wait_seconds, options.model_config_file_poll_wait_seconds
    pauses = [seconds for seconds in (files, config) if seconds]
    waited = 0.0
    while pauses and not stopped.wait(min(pauses)):
        waited += min(pauses)
        if config and waited >= config:
            waited = 0.0
            try:
                servables.configure(read_configs(options))
            except (ServingError, ParseError, OSError):
                log.exception("the configuration file was not taken")
        servables.poll()


def build(options: Namespace) -> tuple[Servables[Model], grpc.Server]:
    """The models, loaded, and a server that is not started yet.

    Raises:
        ServingError, ParseError, OSError: the configuration is not good.
        RuntimeError: the port is taken.
    """

    def load(folder: Path) -> Model:
        if options.prefer_tflite_model and (folder / lite_model.FILE).is_file():
            return LiteModel(folder)
        return SavedModel(
            folder,
            intra_op_threads=options.tensorflow_intra_op_parallelism,
            inter_op_threads=options.tensorflow_inter_op_parallelism,
        )

    servables = Servables(
        load,
        max_load_retries=options.max_num_load_retries,
        load_retry_seconds=options.load_retry_interval_micros / 1e6,
        labels_before_available=options.allow_version_labels_for_unavailable_models,
    )
    servables.configure(read_configs(options))
    servables.poll()
    server = grpc.server(ThreadPoolExecutor(options.grpc_max_threads), options=SERVER_OPTIONS)
    prediction = PredictionService(servables, as_content=options.enable_serialization_as_tensor_content)
    models = ModelService(servables, options.models_root)
    server.add_generic_rpc_handlers((prediction.handler(), models.handler()))
    server.add_insecure_port(f"{options.host}:{options.port}")
    return servables, server


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    options = flags.parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    servables, server = build(options)
    server.start()
    log.info("stand-in for TensorFlow Serving: gRPC at %s:%d", options.host, options.port)
    threading.Thread(target=watch, args=(servables, options, stopped), daemon=True).start()
    stopped.wait()
    server.stop(STOP_SECONDS).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
