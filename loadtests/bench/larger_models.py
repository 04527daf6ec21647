"""Models that take milliseconds: throughput through the gateway against ONNX Runtime alone."""

import asyncio
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from loadtests.bench.answers import check_one
from loadtests.bench.closed_loop import http_loop
from loadtests.bench.http_client import ask_each
from loadtests.bench.measure import Options, say
from loadtests.bench.sources import BINARY, OIP_BINARY
from loadtests.bench.systems import System, running_inferway, triton_system
from tests.load import binary_oip_request
from tests.serving import BUILT, EMBEDDED, ROOT, running_triton

TOKENS = 64
CORES = os.cpu_count() or 1
IN_FLIGHT = 2 * CORES
CHECKED = 4
THROUGH_TRITON, THROUGH_EMBEDDED = "Inferway, Triton behind", "Inferway, embedded engine"


@dataclass(frozen=True, slots=True)
class Model:
    """A model and distinct values of its one input.

    Attributes:
        name: the model's.
        title: as people write it.
        input_name: the input's.
        datatype: the input's.
        draw: makes 32 values, stacked.
    """

    name: str
    title: str
    input_name: str
    datatype: str
    draw: Callable[[np.random.Generator], NDArray[Any]]

    @property
    def onnx(self) -> Path:
        """The file that every engine has."""
        return BUILT / "onnx" / self.name / "1" / "model.onnx"

    def requests(self, rows: NDArray[Any], headers: Mapping[str, str]) -> list[bytes]:
        """One binary OIP request for each value."""
        return [
            binary_oip_request(self.name, self.input_name, self.datatype, row[None], headers) for row in rows
        ]


MODELS = (
    Model(
        "mobilenet_v2",
        "MobileNetV2, 224x224x3",
        "image",
        "FP32",
        lambda rng: rng.uniform(-1, 1, (32, 224, 224, 3)).astype(np.float32),
    ),
    Model(
        "bert_chinese",
        f"BERT, {TOKENS} tokens",
        "tokens",
        "INT64",
        lambda rng: rng.integers(670, 8000, (32, TOKENS)),
    ),
)


def measure_larger(folder: Path, options: Options) -> dict[str, Any]:
    """By model and system: throughput, and its ratio to ONNX Runtime alone with the engine's threads.

    Triton has one instance with one thread, the embedded engine a thread for each core.

    Raises:
        WrongAnswer, LoadFailed: see there.
    """
    names = [model.name for model in MODELS]
    more = {
        "models": [str(ROOT / "models" / name) for name in names],
        "pools": [{"model": name, "endpoints": ["engine"]} for name in names],
    }
    with ExitStack() as stack:
        triton = stack.enter_context(running_triton(folder / "engine", names))
        systems = {"Triton": triton_system(triton)}
        for title, endpoint in {THROUGH_TRITON: triton.endpoint, THROUGH_EMBEDDED: EMBEDDED}.items():
            home = folder / str(endpoint["backend"])
            gateway = running_inferway(home, endpoint, title=title, pids={}, more=more)
            systems[title] = stack.enter_context(gateway)
        return {model.title: _measure(folder, model, systems, options) for model in MODELS}


def _measure(folder: Path, model: Model, systems: Mapping[str, System], options: Options) -> dict[str, Any]:
    rows = model.draw(np.random.default_rng(5))
    inputs = folder / f"{model.name}.npy"
    np.save(inputs, rows)
    requests = {
        title: model.requests(rows, system.encodings[BINARY].headers) for title, system in systems.items()
    }
    for title, system in systems.items():
        _check(system, model, rows, requests[title])
    rates: dict[str, list[float]] = {title: [] for title in systems}
    ratios: dict[str, list[float]] = {title: [] for title in systems}
    alone: dict[int, list[float]] = {1: [], CORES: []}
    for _ in range(options.rounds):
        for threads, rounds in alone.items():
            rounds.append(_alone(model, inputs, threads, options.seconds))
            say(f"{model.title}, ONNX Runtime alone, {threads} at once: {rounds[-1]:.1f}/s")
        for title, system in systems.items():
            if options.warm_up_seconds:
                http_loop(
                    system.address,
                    requests[title],
                    connections=IN_FLIGHT,
                    seconds=options.warm_up_seconds,
                )
            loop = http_loop(system.address, requests[title], connections=IN_FLIGHT, seconds=options.seconds)
            threads = CORES if title == THROUGH_EMBEDDED else 1
            rates[title].append(loop.per_second)
            ratios[title].append(loop.per_second / alone[threads][-1])
            say(f"{model.title}, {title}: {loop.per_second:.1f}/s, {ratios[title][-1]:.2f}x of it alone")
    figures: dict[str, Any] = {
        f"ONNX Runtime, {threads} at once": {"per_second": round(statistics.median(rounds), 1), "ratio": 1.0}
        for threads, rounds in alone.items()
    }
    for title in systems:
        per_second, ratio = statistics.median(rates[title]), statistics.median(ratios[title])
        figures[title] = {"per_second": round(per_second, 1), "ratio": round(ratio, 3)}
    return figures


def _check(system: System, model: Model, rows: NDArray[Any], requests: list[bytes]) -> None:
    session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
    replies = asyncio.run(ask_each(system.address, requests[:CHECKED]))
    for row, (headers, body) in zip(rows, replies, strict=False):
        expected = session.run(None, {model.input_name: row[None]})[0].ravel()
        check_one(f"{system.title}, {model.title}", OIP_BINARY.answer(headers, body), expected)


def _alone(model: Model, inputs: Path, threads: int, seconds: int) -> float:
    argv = [sys.executable, "-m", "loadtests.bench.bare_onnx", str(model.onnx), str(inputs), model.input_name]
    argv += [str(threads), str(seconds)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(ended.stdout)
