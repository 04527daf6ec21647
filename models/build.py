"""Builds every model for every engine: export, judge, compare, publish.

    OUT/onnx/            the embedded engine's repository, and what all others are compared with
    OUT/onnx-tensorrt/   int8 networks in the form that TensorRT reads, for a machine with a GPU
    OUT/torchserve/      .mar files
    OUT/tfserving/       SavedModels and LiteRT models; OUT/tfserving/models.config names them all
    OUT/triton/          a model repository for a machine without a GPU

A variant that misses its floor, or a form that does not answer as ONNX does, is refused: it is not there
afterwards, and neither is what is made from it. What was built from the same files is left as it is; what
could not be built anew for another reason keeps its last build; what no contract asks for any more is
removed.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from models import gate, manifest, publishing
from models.artifacts import MODELS, Artifact, names, of_model
from models.gate import Refused
from models.processes import ROOT, BuildError
from models.progress import Progress

OUT = ROOT / "build" / "models"
FORMS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx",),
    "torchserve": ("torchserve",),
    "tfserving": ("tfserving",),
    "triton": ("triton", "onnx-tensorrt"),
}
"""The folders that each choice of --form fills."""
RECIPE = Path(publishing.__file__)


def digest(artifact: Artifact, record: Mapping[str, Any]) -> str:
    """A hash over the names and contents of what an artifact is made from, this recipe included.

    A file that is not there counts too: the ONNX of a refused version, whose folder others share.
    """
    state = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for path in (*artifact.inputs, RECIPE):
        content = path.read_bytes() if path.exists() else b"absent"
        state.update(f"{path.name} {len(content)}\n".encode() + content)
    return state.hexdigest()


def bring_up_to_date(
    artifact: Artifact, out: Path, *, force: bool = False, missing: Collection[str] = ()
) -> bool:
    """Build one artifact unless its manifest says that nothing changed; true when it was built.

    It is written beside its place and moved there whole, so that a failure leaves the old one.

    Args:
        artifact: what to build.
        out: the output folder.
        force: build it even if nothing changed.
        missing: paths of artifacts that could not be built.

    Raises:
        Refused: it is not good enough.
        BuildError: it could not be built.
    """
    if artifact.lacks(missing):
        raise BuildError(f"needs {' or '.join(artifact.needs)}")
    target = out / artifact.path
    record = artifact.record()
    wanted = digest(artifact, record)
    if not force and manifest.read(target).get("inputs_sha256") == wanted:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".building-") as scratch:
        fresh = Path(scratch) / target.name
        made = {
            "artifact": artifact.path,
            "engine": artifact.engine,
            "inputs_sha256": wanted,
            **artifact.write(fresh),
        }
        gate.check_record(record, made.get("metrics", {}))
        manifest.write(fresh, {**made, "evaluation": record} if record else made)
        _remove(target)
        for path in {manifest.path_of(fresh), fresh}:
            if path.parent == fresh.parent:  # the manifest of a folder moves with it
                path.replace(target.parent / path.name)
    return True


def remove_unwanted(out: Path, wanted: Collection[str]) -> None:
    """Remove what an earlier build made and no contract asks for any more, so that no engine serves it."""
    for path in [*out.rglob(manifest.NAME), *out.rglob(f"*.{manifest.NAME}")]:
        artifact = json.loads(path.read_text(encoding="utf-8"))["artifact"]
        if artifact not in wanted:
            _remove(out / artifact)


def models_config(out: Path) -> str:
    """TF Serving's list of models: all that were built, every version, at the paths that its image has.

    Labels are not in it: the gateway turns a label into a version before it asks an engine.
    """
    built = {path.parent.name for path in (out / "tfserving").glob("*/[0-9]*")}
    entries = [
        f'  config {{\n    name: "{name}"\n    base_path: "/models/tfserving/{name}"\n'
        '    model_platform: "tensorflow"\n    model_version_policy { all { } }\n  }\n'
        for name in sorted(built)
    ]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def select(artifacts: Sequence[Artifact], form: str | None) -> list[Artifact]:
    """The artifacts of one choice of --form and what they need, in order; without one, all."""
    if form is None:
        return list(artifacts)
    by_path = {artifact.path: artifact for artifact in artifacts}
    wanted = [path for path in by_path if by_path[path].engine in FORMS[form]]
    for path in wanted:  # grows while it is walked
        wanted += [need for need in by_path[path].needs if need not in wanted]
    return [artifact for artifact in artifacts if artifact.path in wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """Build; one line for each artifact. Exit code 1 when something was refused or could not be built."""
    known = names(MODELS)
    parser = argparse.ArgumentParser(
        prog="python -m models.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", choices=known, action="append", help="this model only; may be repeated (all)"
    )
    parser.add_argument(
        "--form", choices=FORMS, help="this engine's form only, and the ONNX that it needs (all)"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="the output folder (build/models)")
    parser.add_argument("--force", action="store_true", help="build also what has not changed")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="models at once (as many as there are cores)"
    )
    options = parser.parse_args(argv)
    out = options.out.resolve()  # the exporters run elsewhere
    out.mkdir(parents=True, exist_ok=True)
    models: list[list[Artifact]] = []
    failures = 0
    with tempfile.TemporaryDirectory(dir=out, prefix=".building-") as scratch:
        for name in options.model or known:
            try:
                models.append(list(of_model(MODELS / name, out, Path(scratch))))
            except BuildError as error:
                failures += 1
                print(f"{name}: not built: {error}", file=sys.stderr, flush=True)
        if not options.model and not failures:
            remove_unwanted(out, {artifact.path for model in models for artifact in model})
        chosen = [select(model, options.form) for model in models]
        failed, refused = build_models(chosen, out, force=options.force, jobs=options.jobs)
        withdraw([artifact for model in models for artifact in model], out, refused)
    config = out / "tfserving" / "models.config"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(models_config(out))
    return 1 if failures or failed else 0


def build_models(
    models: Sequence[Sequence[Artifact]], out: Path, *, force: bool, jobs: int
) -> tuple[int, set[str]]:
    """Build each model's artifacts in order, several models at once.

    Args:
        models: the artifacts of each; none needs another model's.
        out: the output folder.
        force: build also what has not changed.
        jobs: how many models at once.

    Returns:
        How many artifacts were not built, and the paths of those that were refused.
    """
    progress = Progress(sum(map(len, models)))
    # a model at a time keeps its frameworks from sharing the cores with another's: one thread each
    longest_first = sorted(models, key=len, reverse=True)
    with ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(partial(build_all, out=out, force=force, progress=progress), longest_first))
    return sum(failed for failed, _ in done), set().union(*(refused for _, refused in done))


def build_all(
    artifacts: Sequence[Artifact], out: Path, *, force: bool, progress: Progress
) -> tuple[int, set[str]]:
    """Build in order, a line each; how many were not built, and the paths of those that were refused."""
    failed: set[str] = set()
    refused: set[str] = set()
    for artifact in artifacts:
        progress.begins(artifact.path)
        begun = time.monotonic()
        try:
            built = bring_up_to_date(artifact, out, force=force, missing=failed)
            said = f"built in {time.monotonic() - begun:.1f} s" if built else "up to date"
        except BuildError as error:
            failed.add(artifact.path)
            if isinstance(error, Refused) or artifact.lacks(refused):
                refused.add(artifact.path)
            said = f"{'refused' if artifact.path in refused else 'not built'}: {error}"
        progress.ends(artifact.path, said)
    return len(failed), refused


def withdraw(artifacts: Iterable[Artifact], out: Path, refused: Collection[str]) -> None:
    """Remove what was refused, and what needs it, whatever --form was chosen."""
    gone = set(refused)
    for artifact in artifacts:
        if artifact.path in gone or artifact.lacks(gone):
            gone.add(artifact.path)
            _remove(out / artifact.path)


def _remove(path: Path) -> None:
    """Remove an artifact, its manifest with it."""
    manifest.path_of(path).unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
