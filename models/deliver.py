"""Copies what `make models` built to where the engines read it: `python deliver.py PUBLISHED TARGET`.

It is the publisher image's program, and needs nothing but Python. An artifact is copied when its manifest is
not the one at the target, and comes into its place by a rename, so that an engine that polls never sees half
of one. What is no longer published is removed last. Several may run on one target: each waits for the one
before.
"""

import argparse
import fcntl
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

MANIFEST = "manifest.json"
CONFIGURATION = Path("tfserving/models.config")
"""The one published file that is no artifact."""


class DeliveryError(RuntimeError):
    """What is published cannot be delivered; the text is one line for a person."""


def deliver(published: Path, target: Path) -> list[str]:
    """Make `target` hold what `published` does.

    Args:
        published: the folder of the artifacts, each with its manifest: build/models.
        target: a folder that is there.

    Returns:
        The paths, relative to both folders, of what was copied or removed.

    Raises:
        DeliveryError: there is nothing to deliver, or a file is not the one that its manifest names.
        OSError: the target cannot be written.
    """
    wanted = list(_artifacts(published))
    if not wanted:
        raise DeliveryError(f"{published} has no model: run `make models` before the image is built")
    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        changed = [path for path in wanted if _differs(_manifest(published / path), _manifest(target / path))]
        with tempfile.TemporaryDirectory(dir=target, prefix=".delivering-") as scratch:
            for path in changed:
                _copy(published / path, target / path, Path(scratch))
            if (published / CONFIGURATION).is_file() and _differs(
                published / CONFIGURATION, target / CONFIGURATION
            ):
                _put(published / CONFIGURATION, target / CONFIGURATION, Path(scratch))
        unwanted = sorted(set(_artifacts(target)) - set(wanted))
        for path in unwanted:
            _remove(target / path)
    return [str(path) for path in (*changed, *unwanted)]


def _artifacts(root: Path) -> Iterator[Path]:
    """The artifacts under `root`, relative to it: folders that hold a manifest, files that lie beside one."""
    for manifest in sorted(root.rglob(f"*{MANIFEST}")):
        place = manifest.relative_to(root)
        if place.parts[0].startswith("."):
            continue
        if manifest.name == MANIFEST:
            yield place.parent
        else:
            yield place.with_name(manifest.name.removesuffix(f".{MANIFEST}") + ".mar")


def _manifest(artifact: Path) -> Path:
    return artifact.with_suffix(f".{MANIFEST}") if artifact.suffix == ".mar" else artifact / MANIFEST


def _differs(one: Path, other: Path) -> bool:
    return not other.is_file() or one.read_bytes() != other.read_bytes()


def _copy(source: Path, target: Path, scratch: Path) -> None:
    """An artifact in place of what was there; after a file its manifest, as the sign that it is whole."""
    folder = source.parent if source.is_file() else source
    for name, sha256 in json.loads(_manifest(source).read_bytes())["files"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
            raise DeliveryError(f"{folder / name}: not the file that its manifest names")
    _put(source, target, scratch)
    if source.is_file():
        _put(_manifest(source), _manifest(target), scratch)


def _put(source: Path, target: Path, scratch: Path) -> None:
    fresh = Path(tempfile.mkdtemp(dir=scratch)) / source.name
    if source.is_dir():
        shutil.copytree(source, fresh)
    else:
        shutil.copyfile(source, fresh)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target.rename(fresh.with_suffix(".old"))
    fresh.replace(target)


def _remove(artifact: Path) -> None:
    if artifact.is_dir():
        shutil.rmtree(artifact)
        return
    artifact.unlink(missing_ok=True)
    _manifest(artifact).unlink()


def main(argv: Sequence[str] | None = None) -> int:
    """Deliver, and say what changed. Exit code 1 and one line on standard error when it cannot be done."""
    parser = argparse.ArgumentParser(prog="deliver.py", description=main.__doc__)
    parser.add_argument("published", type=Path, help="what `make models` built")
    parser.add_argument("target", type=Path, help="where the engines read")
    options = parser.parse_args(argv)
    try:
        changed = deliver(options.published, options.target)
    except (DeliveryError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{path}\n" for path in changed) or "nothing changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
