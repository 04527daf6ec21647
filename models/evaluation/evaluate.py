"""Measure every variant of a model on its whole test split, with ONNX Runtime in this process.

    .venvs/models/bin/python -m models.evaluation.evaluate --model NAME

It writes versions/<version>/evaluation.json, which the gate asks for before it publishes a variant, and the
report shows. `--test FILE` only writes the test split as a zip of samples.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tqdm import tqdm

from models import samples
from models.evaluation import answers, machine, metrics, subject
from models.evaluation.subject import EvaluationError, Subject, Variant, test_split
from models.samples import UNKNOWN, Samples

NOT_LEARNT = ("running_mean", "running_var", "num_batches_tracked")
"""What a checkpoint holds beside parameters."""


def scores(
    found: Mapping[str, NDArray[np.float32]], test: Samples, contract: Mapping[str, Any]
) -> dict[str, Any]:
    """What is kept of each variant's answers, by variant; the first is what the others are held against.

    Where no right answer is known, that is the agreement with the first variant alone.
    """
    reference = next(iter(found.values()))
    kept: dict[str, Any] = {}
    for variant, answered in found.items():
        if contract.get("task") == "regression":
            kept[variant] = metrics.regression(answered.ravel(), np.asarray(test.labels, np.float32))
            continue
        known = test.labels != UNKNOWN
        kept[variant] = {"metrics": {}}
        if known.all():
            labels = contract["outputs"][0]["labels"]
            kept[variant] = metrics.classification(answered, np.asarray(test.labels, np.int64), labels)
        kept[variant]["metrics"]["agreement"] = metrics.agreement(answered, reference)
    return kept


def evaluate(model: Subject, test: Samples, *, batch: int, threads: int) -> dict[str, Any]:
    """Export each variant, ask all of them, and count.

    Args:
        model: what to measure.
        test: on what.
        batch: rows at a time; a row's answer does not depend on it.
        threads: of ONNX Runtime.

    Raises:
        EvaluationError: a variant cannot be exported.
    """
    with subject.exported(model) as files:
        sessions = {name: answers.session(path, threads=threads) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
    with tqdm(total=len(test), desc=model.name, unit="row", mininterval=1) as bar:
        found = answers.collect(model, test, sessions, batch=batch, advance=bar.update)
    kept = scores(found, test, model.contract)
    return {
        "model": model.name,
        "version": model.version,
        "date": subject.today(),
        "test": {"count": len(test), "sha256": answers.digest(test)},
        "machine": machine.describe(),
        "packages": machine.packages(),
        "variants": {
            name: {
                "sha256": variant.sha256,
                **kept[name],
                "size_bytes": sizes[name],
                "parameters": parameters(variant),
            }
            for name, variant in model.variants.items()
        },
    }


def parameters(variant: Variant) -> int:
    """How many numbers its checkpoint learnt."""
    with safe_open(variant.checkpoint, "numpy") as weights:
        learnt = [name for name in weights.keys() if not name.endswith(NOT_LEARNT)]  # noqa: SIM118 - no dict
        return sum(int(np.prod(weights.get_slice(name).get_shape())) for name in learnt)


def table(record: Mapping[str, Any]) -> str:
    """The record's metrics as text, one line a variant."""
    variants = record["variants"]
    names = list(next(iter(variants.values()))["metrics"])
    rows = [["variant", *names, "MB"]]
    for variant, entry in variants.items():
        values = [f"{entry['metrics'][name]:.4f}" for name in names]
        rows.append([variant, *values, f"{entry['size_bytes'] / 1e6:.2f}"])
    return "\n".join(answers.lines(rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write; 1 and one line on standard error when that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluation.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--version", help="its version (the default one)")
    parser.add_argument("--limit", type=int, help="only the first so many rows; then nothing is written")
    parser.add_argument("--batch", type=int, default=32, help="rows at a time (32)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="of ONNX Runtime (every core)"
    )
    parser.add_argument(
        "--test", type=Path, metavar="FILE", help="write the test split here, and measure nothing"
    )
    options = parser.parse_args(argv)
    try:
        model = subject.of(options.model, version=options.version)
        test = test_split(model.name)[: options.limit]
        if options.test:
            samples.write(options.test, test, "sample")
            return 0
        record = evaluate(model, test, batch=options.batch, threads=options.threads)
    except (EvaluationError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(record))
    if not options.limit:
        out = model.records / "evaluation.json"
        out.write_text(json.dumps(record) + "\n", encoding="utf-8")
        print(f"wrote {out.relative_to(subject.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
