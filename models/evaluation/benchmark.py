"""Measure how fast each variant is: one thread, one row and 32 rows, against PyTorch and ONNX Runtime fp32.

    .venvs/models/bin/python -m models.evaluation.benchmark --model NAME

The unpruned fp32 network in PyTorch (eager) and every variant in ONNX Runtime take turns, in an order drawn
anew each round. A candidate's time in a round is its fastest call of several; a ratio is formed within a
round, where both met the same machine, and the median of all rounds counts, with the quartiles as its spread.
So what else the machine does is met by all alike, and a disturbance of some rounds moves nothing.

Times are CPU times of the process, all its threads counted. With one thread and nothing to wait for, that is
the latency of a machine that does nothing else; by the clock, a long call would be interrupted by other work
and a short one not, and the ratio would flatter the short one.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tqdm import tqdm

from models import samples
from models.evaluation import answers, machine, subject
from models.evaluation.subject import EvaluationError, Subject

BATCHES = (1, 32)
LENGTH = 64
"""Of every padded axis: a sentence of this many tokens."""
ROUNDS, CALLS, SECONDS = 40, 3, 0.02
"""How often all take their turn; and a turn's fewest calls and shortest time."""
TORCH = "torch"
METHOD = (
    "One thread. PyTorch runs the unpruned fp32 network eagerly in inference mode, ONNX Runtime every "
    "variant. They take turns in an order drawn anew each round. Times are CPU times, which other work does "
    "not lengthen: of a turn the fastest call, of all rounds the median. A ratio is formed within a round, "
    "median and quartiles over all rounds."
)
Call = Callable[[], object]


def rows(model: Subject, count: int) -> answers.Inputs:
    """A batch of real examples; padded axes are cut, or filled by repetition, to LENGTH."""
    payloads = samples.read(model.folder / "examples.zip").payloads
    items = [model.transform.to_inputs(payloads[i % len(payloads)]) for i in range(count)]
    return answers.stack(
        [{name: _fitted(model, name, np.asarray(v)) for name, v in item.items()} for item in items], {}
    )


def turns(
    calls: Mapping[str, Call], *, rounds: int, what: str, rng: np.random.Generator
) -> dict[str, list[float]]:
    """CPU seconds of a call's fastest run, by candidate, one a round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # the first one plans and allocates
    for _ in tqdm(range(rounds), what, mininterval=1):
        for name in rng.permutation(list(calls)):
            seconds[name].append(_fastest(calls[name]))
    return seconds


def summary(seconds: Mapping[str, Sequence[float]], reference: str) -> dict[str, Any]:
    """Each candidate's time, and its ratios, as median and quartiles.

    Args:
        seconds: by candidate, one a round; TORCH among them.
        reference: the candidate that is ONNX Runtime's fp32.
    """
    found: dict[str, Any] = {}
    for name, own in seconds.items():
        found[name] = {"seconds": _spread(own)}
        for key, other in (("against_torch", TORCH), ("against_onnxruntime", reference)):
            found[name][key] = _spread(np.divide(seconds[other], own))
    return found


def benchmark(model: Subject, *, rounds: int) -> dict[str, Any]:
    """Export, take turns, count.

    Raises:
        EvaluationError: a variant cannot be exported.
    """
    torch.set_num_threads(1)
    with subject.exported(model) as files:
        sessions = {name: answers.session(path, threads=1) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
    first = next(iter(model.variants.values()))
    network = import_module(f"models.{model.name}.network").of(load_file(first.checkpoint)).eval()
    load_before = os.getloadavg()[0]
    batches = {}
    for size in BATCHES:
        inputs = rows(model, size)
        tensors = [torch.from_numpy(inputs[spec["name"]]) for spec in model.contract["inputs"]]
        calls: dict[str, Call] = {name: _asked(answer, inputs) for name, answer in sessions.items()}
        with torch.inference_mode():
            calls[TORCH] = lambda tensors=tensors: network(*tensors)  # type: ignore[misc]
            seconds = turns(calls, rounds=rounds, what=f"batch {size}", rng=np.random.default_rng(size))
        batches[str(size)] = summary(seconds, first.name)
    return {
        "model": model.name,
        "version": model.version,
        "date": subject.today(),
        "method": METHOD,
        "rounds": rounds,
        "shapes": {name: list(value.shape[1:]) for name, value in inputs.items()},
        "machine": {**machine.describe(), "load": [round(load_before, 2), round(os.getloadavg()[0], 2)]},
        "packages": machine.packages(),
        "sha256": {name: variant.sha256 for name, variant in model.variants.items()},
        "size_bytes": sizes,
        "batches": batches,
    }


def table(record: Mapping[str, Any]) -> str:
    """Times and ratios as text."""
    table_rows = [["batch", "candidate", "ms", "x torch", "(quartiles)", "x onnxruntime", "(quartiles)"]]
    for size, found in record["batches"].items():
        for name, entry in found.items():
            ratios = [entry[key] for key in ("against_torch", "against_onnxruntime")]
            cells = [
                cell for r in ratios for cell in (f"{r['median']:.2f}", f"{r['low']:.2f}-{r['high']:.2f}")
            ]
            table_rows.append([size, name, f"{1e3 * entry['seconds']['median']:.3f}", *cells])
    return "\n".join(answers.lines(table_rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write; 1 and one line on standard error when that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluation.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--version", help="its version (the default one)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each candidate ({ROUNDS})")
    parser.add_argument("--dry-run", action="store_true", help="print, and write nothing")
    options = parser.parse_args(argv)
    try:
        model = subject.of(options.model, version=options.version)
        record = benchmark(model, rounds=options.rounds)
    except (EvaluationError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(record))
    if not options.dry_run:
        out = model.records / "benchmark.json"
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {out.relative_to(subject.ROOT)}")
    return 0


def _fitted(model: Subject, name: str, value: NDArray[Any]) -> NDArray[Any]:
    rule = model.padded.get(name)
    if rule is None:
        return value
    axis = rule.get("axis", 0)
    fitted: NDArray[Any] = np.take(value, np.arange(LENGTH) % value.shape[axis], axis=axis)
    return fitted


def _asked(answer: answers.Answer, inputs: answers.Inputs) -> Call:
    return lambda: answer(inputs)


def _fastest(call: Call) -> float:
    """CPU seconds of the fastest of at least CALLS calls in at least SECONDS."""
    fastest, begun, count = float("inf"), time.process_time(), 0
    end = begun
    while count < CALLS or end - begun < SECONDS:
        before = time.process_time()
        call()
        end = time.process_time()
        fastest, count = min(fastest, end - before), count + 1
    return fastest


def _spread(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    sys.exit(main())
