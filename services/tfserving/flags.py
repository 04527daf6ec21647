"""The stand-in's command line: flags named as those of `tensorflow_model_server`, and two of its own."""

import argparse
import os
from pathlib import Path


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise argparse.ArgumentTypeError(f"expected true or false, got '{text}'")
    return text.lower() in {"true", "1"}


def parser() -> argparse.ArgumentParser:
    """What `python -m services.tfserving.server` takes."""
    made = argparse.ArgumentParser(
        prog="python -m services.tfserving.server",
        description="A wire-compatible stand-in for tensorflow_model_server (gRPC only); see README.md.",
        allow_abbrev=False,
    )
    flag = made.add_argument
    flag("--port", type=int, default=8500, help="gRPC port")
    flag("--model_config_file", type=Path, help="models.config: a ModelServerConfig in text form")
    flag("--model_config_file_poll_wait_seconds", type=float, default=0, help="read it again; 0: never")
    flag("--model_name", default="default", help="without --model_config_file: the one model's name")
    flag("--model_base_path", default="", help="without --model_config_file: its base path")
    flag("--file_system_poll_wait_seconds", type=float, default=1, help="look for versions; 0: once")
    flag("--max_num_load_retries", type=int, default=5, help="further tries to load a version that failed")
    flag("--load_retry_interval_micros", type=int, default=60_000_000, help="the least time between two")
    _switch(made, "--allow_version_labels_for_unavailable_models", "labels may name versions not yet loaded")
    _switch(made, "--enable_serialization_as_tensor_content", "answer in tensor_content, not typed fields")
    _switch(made, "--prefer_tflite_model", "load a version's model.tflite in place of its saved_model.pb")
    flag("--tensorflow_intra_op_parallelism", type=int, default=0, help="threads of one operation; 0: all")
    flag("--tensorflow_inter_op_parallelism", type=int, default=0, help="operations at a time; 0: all cores")
    flag("--grpc_max_threads", type=int, default=4 * (os.cpu_count() or 1), help="calls at a time")
    own = made.add_argument_group("of the stand-in only")
    own.add_argument("--models-root", type=Path, help="replaces a leading /models in every base path")
    own.add_argument("--host", default="127.0.0.1", help="address to listen on (the real server: all)")
    return made


def _switch(made: argparse.ArgumentParser, name: str, text: str) -> None:
    made.add_argument(name, type=_boolean, nargs="?", const=True, default=False, help=text)
