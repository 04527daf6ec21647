"""Builds every model for every engine that has a native format of its own.

    OUT/torchserve/cnn_mnist.mar     TorchScript, the handler and the contract
    OUT/tfserving/cnn_mnist/1/       a SavedModel; OUT/tfserving/models.config names them all
    OUT/triton/cnn_mnist/            a model repository for a machine without a GPU

What was built from the same files before is left as it is; what no contract asks for any more is removed.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from models.artifacts import MODELS, ROOT, Artifact, BuildError, names, of_model

OUT = ROOT / "build" / "models"
STAMPS = ".stamps"
RECIPE = (Path(__file__), MODELS / "artifacts.py")


def digest(artifact: Artifact) -> str:
    """A hash over the names and contents of what an artifact is made from, this recipe included.

    Raises:
        BuildError: one of the files cannot be read.
    """
    state = hashlib.sha256()
    for path in (*artifact.inputs, *RECIPE):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BuildError(f"{path} cannot be read: {error.strerror}") from error
        state.update(f"{path.name} {len(content)}\n".encode() + content)
    return state.hexdigest()


def bring_up_to_date(artifact: Artifact, out: Path, *, force: bool = False) -> bool:
    """Build one artifact unless its stamp says that nothing changed; true when it was built.

    It is written beside its place and moved there whole, so that a failure leaves the old one.

    Raises:
        BuildError: it could not be built.
    """
    target, stamp = out / artifact.path, out / STAMPS / artifact.path
    wanted = digest(artifact)
    if not force and target.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return False
    for folder in (target.parent, stamp.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".building-") as scratch:
        fresh = Path(scratch) / target.name
        artifact.write(fresh)
        stamp.unlink(missing_ok=True)
        _remove(target)
        fresh.replace(target)
    stamp.write_text(wanted)
    return True


def remove_unwanted(out: Path, wanted: Collection[str]) -> None:
    """Remove what an earlier build made and no contract asks for any more, so that no engine serves it."""
    stamps = out / STAMPS
    for stamp in [path for path in stamps.rglob("*") if path.is_file()]:
        path = stamp.relative_to(stamps)
        if str(path) not in wanted:
            _remove(out / path)
            stamp.unlink()


def models_config(out: Path) -> str:
    """TF Serving's list of models: all that were built, every version, at the paths that its image has.

    Labels are not in it: the gateway turns a label into a version before it asks an engine.
    """
    built = {path.parent.name for path in (out / "tfserving").glob("*/[0-9]*")}
    entries = [
        f'  config {{\n    name: "{name}"\n    base_path: "/models/{name}"\n'
        '    model_platform: "tensorflow"\n    model_version_policy { all { } }\n  }\n'
        for name in sorted(built)
    ]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Build; one line for each artifact. Exit code 1 when something could not be built."""
    known = names(MODELS)
    parser = argparse.ArgumentParser(
        prog="python -m models.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", choices=known, action="append", help="this model only; may be repeated (all)"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="the output folder (build/models)")
    parser.add_argument("--force", action="store_true", help="build also what has not changed")
    options = parser.parse_args(argv)
    out = options.out.resolve()  # the exporters run elsewhere
    failures = 0
    wanted = set()
    for name in options.model or known:
        try:
            for artifact in of_model(MODELS / name):
                wanted.add(artifact.path)
                failures += not _attempt(artifact, out, options.force)
        except BuildError as error:
            failures += 1
            _complain(name, error)
    if not options.model and not failures:
        remove_unwanted(out, wanted)
    config = out / "tfserving" / "models.config"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(models_config(out))
    return 1 if failures else 0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _attempt(artifact: Artifact, out: Path, force: bool) -> bool:
    begun = time.monotonic()
    try:
        built = bring_up_to_date(artifact, out, force=force)
    except BuildError as error:
        _complain(artifact.path, error)
        return False
    print(
        f"{artifact.path}: {f'built in {time.monotonic() - begun:.1f} s' if built else 'up to date'}",
        flush=True,
    )
    return True


def _complain(what: str, error: BuildError) -> None:
    print(f"{what}: not built: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
