"""What each model is built into, in order: ONNX first, since all else is compared with it or made from it.

    onnx/<engine name>/<version>/            model.onnx, and its answers to the fixed examples
    onnx-tensorrt/<engine name>/<version>/   model.onnx that TensorRT can quantize, if the model has that form
    torchserve/<engine name>.mar             TorchScript, handler and contract; <engine name>_v2.mar of
                                             a version that is not the default
    tfserving/<engine name>/<version>/       a SavedModel, or model.tflite
    triton/<engine name>/                    a model repository for a machine without a GPU, all versions

The engine name is `<model>` for fp32, else `<model>-<variant>`. What a contract calls unpublished is not
built; but ONNX always is.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gateway.configuration import ConfigurationError, load
from gateway.contract import Contract
from models import gate, publishing
from models.processes import ROOT, BuildError
from models.publishing import Build

MODELS = ROOT / "models"
REQUIREMENTS = ROOT / "requirements"
TORCHSERVE = ROOT / "services" / "torchserve"
TRITON = ROOT / "services" / "tensorrt"
EVALUATION = "evaluation.json"
NOT_EXPORTED = {
    "README.md", "train.py", "data.py", "compress.py", "teacher.py", "phrases.py",
    "anchor.py", "anchors.json", "dynamic.py",
}  # fmt: skip
"""Files of a model's folder that no artifact depends on; nor do records of training and measuring."""
PRUNING = "channels.py"
"""The one module of compression/ that no export uses: it makes checkpoints."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing to build.

    Attributes:
        path: where it goes, relative to the output folder; its first part is one of the five above.
        inputs: the files that it is made from.
        write: makes it at the path that it is given, which does not exist yet, and says what belongs in its
            manifest; raises BuildError, or Refused where it is not good enough.
        needs: paths of artifacts that must be there first.
        needs_all: whether all of them must be, or any.
        record: says what is known of it beforehand, which is hashed as the inputs are; raises Refused too.
    """

    path: str
    inputs: Sequence[Path]
    write: Callable[[Path], Mapping[str, Any]]
    needs: Sequence[str] = ()
    record: Callable[[], Mapping[str, Any]] = dict
    needs_all: bool = True

    @property
    def engine(self) -> str:
        """The first part of its path."""
        return self.path.partition("/")[0]

    def lacks(self, missing: Collection[str]) -> bool:
        """Whether it cannot be built without those."""
        gone = [need in missing for need in self.needs]
        return any(gone) if self.needs_all else bool(gone) and all(gone)


def names(folder: Path) -> list[str]:
    """The names of the model folders in `folder`: those with a contract."""
    return sorted(path.parent.name for path in folder.glob("*/model.yaml"))


def of_model(model: Path, out: Path, scratch: Path) -> Iterator[Artifact]:
    """All that one model is built into, each after what it needs.

    Args:
        model: the model's folder.
        out: the output folder.
        scratch: a folder for what several artifacts of a run share.

    Raises:
        BuildError: its contract is wrong, or a checkpoint is not the one that the contract names.
    """
    try:
        contract = load(Contract, model / "model.yaml")
    except ConfigurationError as error:
        raise BuildError(str(error)) from error
    gate.metrics_of(contract.floors)
    in_triton: dict[str, list[Build]] = {}
    for version, spec in contract.versions.items():
        if "fp32" not in spec.variants:
            raise BuildError(
                f"{model / 'model.yaml'}: version {version} has no fp32, which the others are judged by"
            )
        checkpoints = {variant: entry.sha256 for variant, entry in spec.variants.items()}
        for variant, entry in spec.variants.items():
            if not (entry.checkpoint and entry.sha256):
                place = f"{model / 'model.yaml'}: version {version} variant '{variant}'"
                raise BuildError(f"{place}: it is built from a checkpoint with its sha256: name both")
            _check_sha256(model / entry.checkpoint, entry.sha256)
        for variant in sorted(spec.variants, key=lambda name: name != "fp32"):
            build = Build(model, contract, version, variant, out, scratch)
            record = partial(
                gate.judge_record,
                contract.floors, model / "versions" / version / EVALUATION, variant, checkpoints,
            )  # fmt: skip
            yield from _of_variant(build, record)
            if "triton" not in spec.variants[variant].unpublished:
                in_triton.setdefault(variant, []).append(build)
    yield from map(_triton, in_triton.values())


def _of_variant(build: Build, record: Callable[[], Mapping[str, Any]]) -> Iterator[Artifact]:
    """ONNX, then what is compared with it."""
    unpublished = build.contract.versions[build.version].variants[build.variant].unpublished
    sources = [*_sources(build), *_shared("exporting", "parity", "examples"), REQUIREMENTS / "models.txt"]
    compression = [path for path in sorted((MODELS / "compression").glob("*.py")) if path.name != PRUNING]
    judged = [*sources, *_shared("gate"), *compression]
    place = f"{build.engine_name}/{build.version}"
    reference = [] if build.variant == "fp32" else [build.reference]
    yield _artifact(f"onnx/{place}", judged, reference, partial(publishing.onnx, build), record)
    if "triton" not in unpublished and build.has_form("onnx_int8_tensorrt"):
        needs = [*reference, build.onnx]
        yield _artifact(f"onnx-tensorrt/{place}", judged, needs, partial(publishing.onnx_tensorrt, build))
    if "torchserve" not in unpublished:
        # TorchServe's store is flat: the default version has the plain name
        suffix = "" if build.version == build.contract.default_version else f"_v{build.version}"
        inputs = [
            *sources,
            REQUIREMENTS / "torchserve.txt",
            *(TORCHSERVE / file for file in ("handler.py", "model-config.yaml")),
        ]
        path = f"torchserve/{build.engine_name}{suffix}.mar"
        yield _artifact(path, inputs, [build.onnx], partial(publishing.archive, build))
    if "tfserving" not in unpublished:
        inputs = [*sources, REQUIREMENTS / "tensorflow.txt"]
        yield _artifact(f"tfserving/{place}", inputs, [build.onnx], partial(publishing.tensorflow, build))


def _artifact(
    path: str,
    inputs: Sequence[Path],
    needs: Sequence[Path],
    write: Callable[[Path], Mapping[str, Any]],
    record: Callable[[], Mapping[str, Any]] = dict,
) -> Artifact:
    """An artifact that is compared with the answers of the ONNX folders in `needs`."""
    answers = [folder / publishing.ANSWERS for folder in needs]
    paths = ["/".join(folder.parts[-3:]) for folder in needs]
    return Artifact(path, [*inputs, *answers], write, paths, record)


def _triton(builds: Sequence[Build]) -> Artifact:
    """One folder for all versions of a variant: it is in Triton's hands as a whole."""
    first = builds[0]
    return Artifact(
        f"triton/{first.engine_name}",
        [
            first.model / "model.yaml",
            *(TRITON / file for file in ("repository.py", "pbtxt.py", "onnx_model.py")),
            *(build.onnx / "model.onnx" for build in builds),
        ],
        partial(publishing.triton, builds),
        ["/".join(build.onnx.parts[-3:]) for build in builds],
        needs_all=False,
    )


def _sources(build: Build) -> list[Path]:
    """The files of a model that its artifacts are made from, the checkpoint of this variant among them."""
    versions = build.model / "versions"
    return [
        path
        for path in sorted(build.model.rglob("*"))
        if path.is_file()
        and path.name not in NOT_EXPORTED
        and path.suffix != ".pyc"
        and not path.is_relative_to(versions)
    ] + [build.checkpoint]


def _shared(*modules: str) -> list[Path]:
    return [MODELS / f"{module}.py" for module in modules]


def _check_sha256(checkpoint: Path, wanted: str) -> None:
    if not checkpoint.is_file() or hashlib.sha256(checkpoint.read_bytes()).hexdigest() != wanted:
        raise BuildError(
            f"{checkpoint}: missing, or its sha256 is not the one in model.yaml: restore the file, or "
            "correct the sha256 if the weights are newly trained"
        )
