"""Load on a gateway that runs: `make load`; README.md says what can be set."""

import sys
from typing import Any

from locust import events

from loadtests.users import tally
from loadtests.users.oip_grpc import OipGrpcUser
from loadtests.users.oip_rest import OipBinaryUser, OipJsonUser
from loadtests.users.options import add_options
from loadtests.users.tfserving_grpc import TFServingGrpcUser
from loadtests.users.tfserving_rest import TFServingUser
from loadtests.users.torchserve_grpc import TorchServeGrpcUser
from loadtests.users.torchserve_rest import TorchServeUser

__all__ = [
    "OipBinaryUser",
    "OipGrpcUser",
    "OipJsonUser",
    "TFServingGrpcUser",
    "TFServingUser",
    "TorchServeGrpcUser",
    "TorchServeUser",
]


def say_who_answered(**_: Any) -> None:
    """Print which share of the answers came from a cache."""
    sys.stdout.write(f"answered by: {tally.summary() or 'nobody'}\n")


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.quitting.add_listener(say_who_answered)  # type: ignore[no-untyped-call]
