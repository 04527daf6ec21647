"""Gateways of any size, in front of a stand-in for any number of engines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from loadtests import paced_engine
from services.launch import Running, free_port
from tests.load import binary_oip_request
from tests.serving import ROOT, StartedGateway, running_gateway

FLOAT_BYTES = 4
CACHE_BYTES = 1 << 30
"""More than one round of the largest requests has."""

PATIENT_SECONDS = 60.0
"""No limit on time is reached: on a machine that is busy with other things answers are slow."""


@dataclass(frozen=True, slots=True)
class Model:
    """One of the models that the stand-in answers for.

    Attributes:
        name: as clients say it.
        values: how many FP32 its input has, without the batch axis.
    """

    name: str
    values: int

    def contract(self) -> dict[str, Any]:
        """What its `model.yaml` says.

        It has no example, so that nothing is warmed up. A batch is of one: how many requests are joined
        depends on how many endpoints are idle, and would be measured in place of what an endpoint costs.
        """
        variant = {"checkpoint": "none", "sha256": "0" * 64}
        return {
            "name": self.name,
            "max_batch_size": 1,
            "timeout_seconds": PATIENT_SECONDS,
            "inputs": [{"name": "values", "datatype": "FP32", "shape": [self.values]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [2]}],
            "default_version": "1",
            "versions": {"1": {"variants": {"fp32": variant}}},
        }

    def request(self, number: int) -> bytes:
        """A whole HTTP request for one item; one of another number has other values."""
        values = np.full(self.values, 0.5, np.float32)
        values[0] = number
        return binary_oip_request(self.name, "values", "FP32", values[None])


def models(count: int, values: int = 256) -> list[Model]:
    """So many models with inputs of one size."""
    return [Model(f"model_{number:04}", values) for number in range(count)]


class Rig:
    """Starts gateways; all have the same stand-in behind them, on a port for each endpoint.

    Args:
        folder: for configurations and logs.
        ports: of the stand-in.
    """

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._folder = folder
        self._ports = ports
        self._started = 0

    @contextmanager
    def gateway(self, served: Sequence[Model], *, endpoints: int = 1) -> Iterator[StartedGateway]:
        """A gateway that serves these models, each from so many endpoints."""
        self._started += 1
        folder = self._folder / f"gateway-{self._started}"
        for model in served:
            (folder / model.name).mkdir(parents=True)
            (folder / model.name / "model.yaml").write_text(yaml.safe_dump(model.contract()))
        names = [f"engine-{number}" for number in range(endpoints)]
        settings = {
            "models": [str(folder / model.name) for model in served],
            "endpoints": {
                name: {"backend": "triton", "address": f"127.0.0.1:{port}"}
                for name, port in zip(names, self._ports, strict=False)
            },
            "pools": [{"model": model.name, "endpoints": names} for model in served],
            "cache": {"memory_bytes": CACHE_BYTES},
            "admission": {"latency_goal_seconds": PATIENT_SECONDS},
            "balancing": {"attempt_timeout_seconds": PATIENT_SECONDS},
        }
        with running_gateway(folder, settings) as gateway:
            yield gateway


@contextmanager
def rig(folder: Path, most_endpoints: int) -> Iterator[Rig]:
    """The stand-in, started, for up to so many endpoints."""
    ports = [free_port() for _ in range(most_endpoints)]
    engine = paced_engine.launch(folder=folder, root=ROOT, ports=ports, request_seconds=0)
    with Running(engine):
        yield Rig(folder, ports)
