"""Measure every variant on the whole test split through each real engine, over the gateway's REST.

    .venvs/gateway/bin/python -m models.evaluation.engines --model NAME

It needs what `make models` built and the engines' environments, and writes versions/<version>/engines.json:
the score of each engine's answers, and how far they are from ONNX Runtime's in this process.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.backends import engine_model_name
from models import samples
from models.evaluation import answers, machine, serving, subject
from models.evaluation.rest import Rest
from models.evaluation.subject import ROOT, SCRATCH, EvaluationError, Subject
from models.samples import UNKNOWN, Samples
from services.launch import LaunchError

ENGINES = ("onnxruntime", "triton", "torchserve", "tfserving")


def compared(
    answered: NDArray[np.float32], own: NDArray[np.float32], labels: NDArray[Any]
) -> dict[str, float]:
    """An engine's answers [N, ...] against ONNX Runtime's, and against the right ones [N] where known."""
    found = {"largest_difference": float(np.abs(answered - own).max())}
    if np.issubdtype(labels.dtype, np.floating):
        residual = np.square(labels - answered.ravel(), dtype=np.float64).sum()
        found["r2"] = float(1 - residual / np.square(labels - labels.mean(), dtype=np.float64).sum())
        return found
    found["agreement"] = float(np.mean(answered.argmax(1) == own.argmax(1)))
    if (labels != UNKNOWN).all():
        found["accuracy"] = float(np.mean(answered.argmax(1) == labels))
    return found


def through(model: Subject, engine: str, test: Samples, batch: int) -> dict[str, NDArray[np.float32]]:
    """What that engine answers, by the variants that it publishes; empty when it publishes none.

    Raises:
        EvaluationError: a request was not answered as it must be.
        LaunchError: the engine or its gateway does not start.
    """
    wanted = [variant.name for variant in model.variants.values() if engine not in variant.unpublished]
    names = [engine_model_name(model.name, variant) for variant in wanted]
    if not wanted:
        return {}
    with contextlib.ExitStack() as stack:
        # a short path: TorchServe's workers have sockets in it
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        address = stack.enter_context(serving.gateway(model, engine, names, Path(folder)))
        asked = {name: stack.enter_context(Rest(address, model, name, engine)) for name in wanted}
        return answers.collect(model, test, asked, batch=batch, advance=_Count(engine, len(test)))


def in_process(model: Subject, test: Samples, batch: int) -> dict[str, NDArray[np.float32]]:
    """What ONNX Runtime answers in this process, of every variant that was built.

    Raises:
        EvaluationError: none was.
    """
    folder = serving.BUILT / "onnx"
    paths = {
        variant: folder / engine_model_name(model.name, variant) / model.version / "model.onnx"
        for variant in model.variants
    }
    sessions = {variant: answers.session(path, threads=2) for variant, path in paths.items() if path.exists()}
    if not sessions:
        raise EvaluationError(f"{folder} has no {model.name}: run `make models`")
    return answers.collect(model, test, sessions, batch=batch, advance=_Count("in this process", len(test)))


def test_split(model: Subject) -> Samples:
    """The test split, drawn in the environment that can.

    Raises:
        EvaluationError: it cannot be had.
    """
    path = SCRATCH / model.name / "test.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        str(serving.VENVS / "models/bin/python"),
        "-m",
        "models.evaluation.evaluate",
        "--model",
        model.name,
    ]
    try:
        subprocess.run(
            [*command, "--test", str(path)], cwd=ROOT, check=True, stderr=subprocess.PIPE, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1]
        raise EvaluationError(f"the test split of {model.name} cannot be had: {reason}") from error
    return samples.read(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write; 1 and one line on standard error when that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluation.engines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--version", help="its version (the default one)")
    parser.add_argument(
        "--engine", choices=ENGINES, action="append", help="this engine only; may be repeated"
    )
    parser.add_argument("--limit", type=int, help="only the first so many rows; then nothing is written")
    options = parser.parse_args(argv)
    try:
        model = subject.of(options.model, version=options.version)
        test = test_split(model)[: options.limit]
        batch = min(32, model.contract.get("max_batch_size") or 1)
        own = in_process(model, test, batch)
        engines = {}
        for engine in options.engine or ENGINES:
            found = through(model, engine, test, batch)
            engines[engine] = {name: compared(found[name], own[name], test.labels) for name in found}
    except (EvaluationError, LaunchError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for engine, variants in engines.items():
        for name, values in variants.items():
            print(f"{engine} {name}: " + ", ".join(f"{key} {value:.6g}" for key, value in values.items()))
    if not options.limit and not options.engine:
        record = {
            "model": model.name,
            "version": model.version,
            "date": subject.today(),
            "test": {"count": len(test), "sha256": answers.digest(test)},
            "machine": machine.describe(),
            "sha256": {name: variant.sha256 for name, variant in model.variants.items()},
            "engines": engines,
        }
        out = model.records / "engines.json"
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {out.relative_to(ROOT)}")
    return 0


class _Count:
    """A line that counts rows."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0

    def __call__(self, rows: int) -> None:
        self._done += rows
        end = "\n" if self._done == self._total else ""
        print(f"\r{self._what}: {self._done}/{self._total}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
