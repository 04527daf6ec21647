"""What can be set beside locust's own options, and what every user has by it."""

import itertools
import logging
import time
from functools import cache
from random import Random
from typing import Any

from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.inputs.asking import Asking
from loadtests.inputs.catalogue import VARIETIES, Catalogue
from loadtests.inputs.lots import Distinct, Lot, Zipf
from loadtests.pacing import Pace

TIMEOUT_SECONDS = 10.0
"""Of a request."""

_log = logging.getLogger(__name__)
_numbers = itertools.count()


def add_options(parser: LocustArgumentParser) -> None:
    """Options beside locust's own."""
    add = parser.add_argument
    add("--grpc", default="127.0.0.1:8081", help="the gateway's gRPC address")
    add("--admin", default="http://127.0.0.1:8082", help="the gateway's admin port, which a soak reads")
    add("--models", default=" ".join(VARIETIES), help="which models each user asks, in turn")
    add("--pace", type=float, default=0.0, help="requests a second of each user at most; 0: no pause")
    add("--zipf", type=float, default=1.0, help="exponent of the inputs' popularity; 0: all alike")
    add("--catalogue", type=int, default=10_000, help="how many inputs a model has; 0: none comes twice")
    add("--seed", type=int, default=0, help="of the inputs and of the lots")


def plan(environment: Environment) -> tuple[Asking, Pace]:
    """What a new user asks, and when."""
    options: Any = environment.parsed_options
    names = tuple(options.models.split())
    models = {name: _model(name, options.catalogue, options.zipf, options.seed) for name in names}
    number = next(_numbers)
    asking = Asking([models[name] for name in names], number, options.seed)
    return asking, Pace(options.pace, Random(f"{options.seed} {number}"), time.monotonic)


@cache
def _model(name: str, size: int, exponent: float, seed: int) -> tuple[Catalogue, Lot]:
    """Shared by all users, so that they have one catalogue and no input is drawn twice where none may be."""
    catalogue = Catalogue(name, seed)
    if not catalogue.has_references:
        _log.warning("%s: no reference (`make models` writes it): only the form of answers is checked", name)
    return catalogue, Zipf(size, exponent) if size else Distinct(catalogue.examples)
