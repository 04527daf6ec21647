"""What each model is built into, and how: one function an engine.

A model's `export.py` is run in the environment that the form needs, as `python -m models.<name>.export FORM
--variant VARIANT --weights FILE --out PATH`, so that nothing here knows a network or a framework.
"""

import hashlib
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.backends import engine_model_name
from gateway.configuration import ConfigurationError, load
from gateway.contract import Contract
from services.tensorrt import repository

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"
REQUIREMENTS = ROOT / "requirements"
TORCHSERVE = ROOT / "services" / "torchserve"
TRITON = ROOT / "services" / "tensorrt"


class BuildError(RuntimeError):
    """Something could not be built; the text is one line, with the mend."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing to build.

    Attributes:
        path: where it goes, relative to the output folder.
        inputs: the files that it is made from.
        write: makes it at the path that it is given, which does not exist yet; raises BuildError.
    """

    path: str
    inputs: Sequence[Path]
    write: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Export:
    """One variant of one version of a model, ready to be exported."""

    model: Path
    engine_name: str
    version: str
    variant: str
    weights: Path

    def run(self, form: str, environment: str, out: Path) -> None:
        """Have the model write itself to `out` as `form`, in that environment."""
        options = ["--variant", self.variant, "--weights", str(self.weights), "--out", str(out)]
        _run(environment, "python", "-m", f"models.{self.model.name}.export", form, *options)


def names(folder: Path) -> list[str]:
    """The names of the model folders in `folder`: those with a contract."""
    return sorted(path.parent.name for path in folder.glob("*/model.yaml"))


def of_model(model: Path) -> Iterator[Artifact]:
    """All that one model is built into.

    Raises:
        BuildError: its contract is wrong, or its weights are not those that the contract names.
    """
    try:
        contract = load(Contract, model / "model.yaml")
    except ConfigurationError as error:
        raise BuildError(str(error)) from error
    sources = [model / "model.yaml", model / "export.py", model / "network.py"]
    for version, spec in contract.versions.items():
        weights = model / spec.weights
        if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != spec.sha256:
            raise BuildError(
                f"{weights}: missing, or its sha256 is not the one in model.yaml: restore the file, or "
                "correct the sha256 if the weights are newly trained"
            )
        for variant in spec.variants:
            name = engine_model_name(contract.name, variant)
            export = Export(model, name, version, variant, weights)
            # TorchServe's store is flat: the default version has the plain name
            archive = name if version == contract.default_version else f"{name}_v{version}"
            yield Artifact(
                f"torchserve/{archive}.mar",
                [*sources, weights, *(TORCHSERVE / file for file in ("handler.py", "model-config.yaml")),
                 *(REQUIREMENTS / file for file in ("models.txt", "torchserve.txt"))],
                partial(_write_mar, export),
            )  # fmt: skip
            yield Artifact(
                f"tfserving/{name}/{version}",
                [*sources, weights, REQUIREMENTS / "tensorflow.txt"],
                partial(export.run, "savedmodel", "tensorflow"),
            )
    yield from _triton(model, contract)


def _triton(model: Path, contract: Contract) -> Iterator[Artifact]:
    onnx = [
        (variant, model / path) for spec in contract.versions.values() for variant, path in spec.onnx.items()
    ]
    for wanted in dict.fromkeys(variant for variant, _ in onnx):
        yield Artifact(
            f"triton/{engine_model_name(contract.name, wanted)}",
            [
                model / "model.yaml",
                *(TRITON / file for file in ("repository.py", "onnx_model.py")),
                *(path for variant, path in onnx if variant == wanted),
            ],
            partial(_write_repository, model, engine_model_name(contract.name, wanted)),
        )


def _write_mar(export: Export, out: Path) -> None:
    network = out.with_suffix(".pt")
    export.run("torchscript", "torchserve", network)
    packed = out.parent / "packed"
    packed.mkdir()
    _run(
        "torchserve",
        "torch-model-archiver",
        *("--model-name", export.engine_name, "--version", export.version),
        *("--serialized-file", str(network), "--handler", str(TORCHSERVE / "handler.py")),
        *("--extra-files", str(export.model / "model.yaml")),
        *("--config-file", str(TORCHSERVE / "model-config.yaml"), "--export-path", str(packed)),
    )
    (packed / f"{export.engine_name}.mar").rename(out)


def _write_repository(model: Path, engine_name: str, out: Path) -> None:
    rendered = out.parent / "rendered"
    try:
        repository.render(model, "python", rendered)
    except repository.RepositoryError as error:
        raise BuildError(str(error)) from error
    (rendered / engine_name).rename(out)


def _run(environment: str, program: str, *arguments: str) -> None:
    """Run a program of an environment in the repository's root; its output is shown only when it fails."""
    path = ROOT / ".venvs" / environment / "bin" / program
    if not path.exists():
        raise BuildError(f"the environment .venvs/{environment} is missing: run `make env-{environment}`")
    command = [str(path), *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise BuildError(f"{lines[-1]} (exit {done.returncode} of: {shlex.join(command)})")
