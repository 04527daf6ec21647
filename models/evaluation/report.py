"""Write the reports: one page for each model that was measured, and an index.

    .venvs/models/bin/python -m models.evaluation.report

A page is made from what lies in the model's folder: model.yaml and versions/<version>/{evaluation, benchmark,
engines, history*, epsilon}.json, anchors.json, and the README's section on provenance. It needs nothing else:
no network, no script.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from models import gate
from models.evaluation import subject, verdicts, wording
from models.evaluation.charts import charts
from models.evaluation.provenance import provenance
from models.evaluation.subject import MODELS, ROOT, EvaluationError, Subject

TEMPLATES = Path(__file__).parent / "templates"
ENGINES = {
    "onnxruntime": "Embedded (ONNX Runtime)",
    "triton": "Triton",
    "torchserve": "TorchServe",
    "tfserving": "TF Serving",
}
MOST_CLASSES = 60
"""Whose table can be read."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A model and all that was measured of it; what was not is empty.

    Attributes:
        subject: the model.
        evaluation: evaluation.json.
        benchmark: benchmark.json.
        engines: engines.json.
        histories: of each training, by the checkpoint that came of it.
        anchors: `[{name, metric, value}]`: simpler ways to the same end, measured on the same split.
        epsilon: the score of each strictness of privacy.
    """

    subject: Subject
    evaluation: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    engines: Mapping[str, Any]
    histories: Mapping[str, Mapping[str, Any]]
    anchors: Sequence[Mapping[str, Any]]
    epsilon: Mapping[str, Any]

    @property
    def rows(self) -> list[verdicts.Row]:
        """The variants."""
        return verdicts.rows(self.subject, self.evaluation, self.benchmark)


def measured(model: Subject) -> Measured:
    """Read the records of a model.

    Raises:
        EvaluationError: it was never evaluated, or other checkpoints were than the contract names.
    """
    evaluation = _json(model.records / "evaluation.json")
    mend = f"run `make eval MODEL={model.name}`"
    if not evaluation:
        raise EvaluationError(f"{model.name} was not evaluated: {mend}")
    recorded = {name: entry["sha256"] for name, entry in evaluation["variants"].items()}
    if recorded != {name: variant.sha256 for name, variant in model.variants.items()}:
        raise EvaluationError(f"{model.name}: evaluation.json is of other checkpoints: {mend}")
    return Measured(
        model,
        evaluation,
        _json(model.records / "benchmark.json"),
        _json(model.records / "engines.json"),
        {
            path.stem.removeprefix("history").strip("_-") or "fp32": _json(path)
            for path in sorted(model.records.glob("history*.json"))
        },
        _json(model.folder / "anchors.json") or [],
        _json(model.records / "epsilon.json"),
    )


def page(found: Measured) -> str:
    """A model's page."""
    rows = found.rows
    lead = verdicts.headline(rows)
    contract = found.subject.contract
    variants = found.evaluation["variants"]
    per_class = variants[lead.name].get("per_class", [])
    html: str = template("model.html").render(
        found=found,
        rows=rows,
        lead=lead,
        per_class=per_class if len(per_class) <= MOST_CLASSES else [],
        first_per_class={entry["label"]: entry for entry in variants[rows[0].name].get("per_class", [])},
        metric=verdicts.metric_of(contract),
        floor=contract["floors"][verdicts.metric_of(contract)],
        most=contract["floors"].get(gate.LARGEST_LOSS, gate.DEFAULT_LARGEST_LOSS),
        reasons=reasons(found.subject),
        engines=ENGINES,
        charts=charts(found.subject, rows, found.evaluation, found.histories, found.epsilon),
        provenance=provenance(found.subject.folder / "README.md"),
    )
    return html


def index(all_found: Sequence[Measured]) -> str:
    """The page that lists the models."""
    entries = [
        {
            "found": found,
            "rows": found.rows,
            "lead": verdicts.headline(found.rows),
            "metric": verdicts.metric_of(found.subject.contract),
        }
        for found in all_found
    ]
    html: str = template("index.html").render(entries=entries)
    return html


def reasons(model: Subject) -> dict[str, list[str]]:
    """Why variants are not published somewhere: each reason once, with all the places that it holds for."""
    found: dict[str, list[str]] = {}
    for variant in model.variants.values():
        for engine, reason in variant.unpublished.items():
            found.setdefault(reason, []).append(f"{variant.name} in {ENGINES[engine]}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages; a model that was not measured is named and left out, and the exit code is 1."""
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluation.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="the folder of the models (models)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/reports", help="where to (docs/reports)")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    all_found = []
    failures = 0
    for path in sorted(options.models.glob("*/model.yaml")):
        try:
            found = measured(subject.of(path.parent.name, models=options.models))
        except EvaluationError as error:
            failures += 1
            print(error, file=sys.stderr)
            continue
        all_found.append(found)
        (options.out / f"{found.subject.name}.html").write_text(page(found), encoding="utf-8")
        print(f"wrote {options.out / found.subject.name}.html")
    (options.out / "index.html").write_text(index(all_found), encoding="utf-8")
    print(f"wrote {options.out / 'index.html'}")
    return 1 if failures else 0


def template(name: str) -> jinja2.Template:
    """One of templates/, with the words for numbers that it needs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"size": wording.size, "seconds": wording.seconds, "times": wording.times}
    environment.globals |= {"shown": wording.shown, "lost": wording.lost}
    environment.globals |= {"names": wording.NAMES, "labels": wording.METRICS}
    return environment.get_template(name)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
