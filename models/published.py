"""Keeps the table in models/README.md: `python -m models.published` writes it anew from the contracts."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gateway.configuration import load
from gateway.contract import Contract
from gateway.specs import BackendKind
from models.artifacts import MODELS, names

README = MODELS / "README.md"
BEGIN, END = "<!-- published: begin -->\n", "<!-- published: end -->\n"
ENGINES: Mapping[BackendKind, str] = {
    "onnxruntime": "embedded",
    "triton": "Triton",
    "torchserve": "TorchServe",
    "tfserving": "TF Serving",
}


def table(models: Path) -> str:
    """Which engine serves which variant of the default versions, in what form; below, why others do not."""
    rows = ["| model | variant | " + " | ".join(ENGINES.values()) + " |", "|---" * (2 + len(ENGINES)) + "|"]
    reasons: list[str] = []
    for name in names(models):
        contract = load(Contract, models / name / "model.yaml")
        for variant, spec in contract.versions[contract.default_version].variants.items():
            cells = [_cell(engine, variant, spec.unpublished.get(engine), reasons) for engine in ENGINES]
            rows.append(f"| {name} | {variant} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in (*rows, "", *_notes(reasons)))


def _cell(engine: str, variant: str, reason: str | None, reasons: list[str]) -> str:
    """A form, or the number of the reason why there is none; equal reasons share a number."""
    if reason is not None:
        if reason not in reasons:
            reasons.append(reason)
        return f"no ({reasons.index(reason) + 1})"
    int8 = variant.endswith("int8")
    return {"torchserve": "TorchScript", "tfserving": "LiteRT" if int8 else "SavedModel"}.get(engine, "ONNX")


def _notes(reasons: Sequence[str]) -> Iterator[str]:
    return (f"{number}. {reason}" for number, reason in enumerate(reasons, 1))


def replaced(text: str, new: str) -> str:
    """A page with the table put between its two marks (ValueError when they are not there)."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the marks {BEGIN!r} and {END!r}")
    return before + BEGIN + new + END + after


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table of models/README.md anew."""
    argparse.ArgumentParser(prog="python -m models.published", description=main.__doc__).parse_args(argv)
    README.write_text(replaced(README.read_text(encoding="utf-8"), table(MODELS)), encoding="utf-8")


if __name__ == "__main__":
    main()
