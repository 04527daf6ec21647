"""What is measured: a model's contract, its variants, and their ONNX files, exported for the measurement."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from models.samples import Samples

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
SCRATCH = ROOT / "build" / "evaluation"


class EvaluationError(RuntimeError):
    """Something could not be measured; the text is one line, with the mend."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of a version.

    Attributes:
        name: `fp32`, `int8`, ...
        checkpoint: the file that it is made from.
        sha256: that file's, as the contract has it.
        unpublished: the backends that do not serve it, and why.
    """

    name: str
    checkpoint: Path
    sha256: str
    unpublished: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Subject:
    """A version of a model.

    Attributes:
        name: the model's name.
        folder: the model's folder.
        version: the version.
        contract: what model.yaml says.
        variants: by name; the first is the default.
    """

    name: str
    folder: Path
    version: str
    contract: Mapping[str, Any]
    variants: Mapping[str, Variant]

    @property
    def records(self) -> Path:
        """The folder of the version's checkpoints and of what was measured."""
        return self.folder / "versions" / self.version

    @property
    def padded(self) -> Mapping[str, Mapping[str, int]]:
        """`{input: {axis: 0, value: 0, maximum}}` of the inputs whose items differ in length."""
        return {spec["name"]: spec["padded"] for spec in self.contract["inputs"] if "padded" in spec}

    @property
    def transform(self) -> ModuleType:
        """The model's transform.py."""
        return import_module(f"models.{self.name}.transform")


def of(name: str, *, version: str | None = None, models: Path = MODELS) -> Subject:
    """The default version of a model, or another.

    Raises:
        EvaluationError: there is no such model or version, or a checkpoint is not the one that is named.
    """
    folder = models / name
    try:
        contract = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"{folder / 'model.yaml'} cannot be read: {error.strerror}") from error
    version = version or str(contract["default_version"])
    if version not in contract["versions"]:
        raise EvaluationError(f"{name} has no version {version}; it has {', '.join(contract['versions'])}")
    entries = contract["versions"][version]["variants"]
    for variant, entry in entries.items():
        if not {"checkpoint", "sha256"} <= entry.keys():
            place = f"{folder / 'model.yaml'}: version {version} variant '{variant}'"
            raise EvaluationError(f"{place}: it is measured from a checkpoint with its sha256: name both")
    variants = {
        variant: Variant(variant, folder / entry["checkpoint"], entry["sha256"], entry.get("unpublished", {}))
        for variant, entry in entries.items()
    }
    for variant in variants.values():
        path = variant.checkpoint
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != variant.sha256:
            raise EvaluationError(
                f"{path}: missing, or its sha256 is not the one in model.yaml: correct one of them"
            )
    return Subject(name, folder, version, contract, variants)


def test_split(model: str) -> Samples:
    """The model's test split, as its data.py has it; packages are fetched when absent.

    Raises:
        EvaluationError: it has no data.py.
    """
    module = f"models.{model}.data"
    try:
        data = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        mend = "write it, with the splits that `make eval` measures on (docs/adding-a-model.md)"
        raise EvaluationError(f"models/{model}/data.py is not there: {mend}") from error
    split: Samples = data.splits().test
    return split


@contextmanager
def exported(subject: Subject) -> Iterator[dict[str, Path]]:
    """Each variant's ONNX file, written by the model's export.py, as long as it is wanted.

    Raises:
        EvaluationError: an export failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for variant in subject.variants.values():
            print(f"exporting {variant.name} ...", flush=True)
            files[variant.name] = Path(folder) / f"{variant.name}.onnx"
            _export(subject, variant, files[variant.name])
        yield files


def _export(subject: Subject, variant: Variant, out: Path) -> None:
    form = "onnx_int8" if variant.name.endswith("int8") else "onnx"
    command = [sys.executable, "-m", f"models.{subject.name}.export", form]
    options = ["--weights", str(variant.checkpoint), "--out", str(out)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise EvaluationError(f"{subject.name} {variant.name}: the export failed: {last}")


def today() -> str:
    """The date in UTC, as 2026-11-24."""
    return datetime.now(UTC).date().isoformat()
