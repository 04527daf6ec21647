"""The manifest of a built artifact: what it is, how it was made and what it is worth.

A folder holds its `manifest.json`; beside a file NAME.mar lies NAME.manifest.json. It is also how a build
knows what is up to date: `inputs_sha256` is over all that the artifact was made from.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.contract import Contract
from models.processes import ROOT

NAME = "manifest.json"


def path_of(target: Path) -> Path:
    """Where the manifest of an artifact lies."""
    return target.with_suffix(f".{NAME}") if target.suffix == ".mar" else target / NAME


def read(target: Path) -> dict[str, Any]:
    """An artifact's manifest; empty when the artifact is not there or was not finished."""
    try:
        found: dict[str, Any] = json.loads(path_of(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if target.exists() else {}


def write(target: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of an artifact, beside what the facts say the hash of each of its files.

    Nothing in it depends on where the repository lies.
    """
    files = [target] if target.is_file() else sorted(path for path in target.rglob("*") if path.is_file())
    hashes = {
        str(path.relative_to(target.parent if target.is_file() else target)): sha256(path) for path in files
    }
    content = {**facts, "code_version": code_version(), "files": hashes}
    path_of(target).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def identity(contract: Contract, version: str, variant: str) -> dict[str, Any]:
    """What was built: the part of a manifest that is equal in all engines."""
    spec = contract.versions[version].variants[variant]
    return {
        "model": contract.name,
        "version": version,
        "variant": variant,
        "build_digest": contract.build_digest(version, variant).hex(),
        "checkpoint": {"file": spec.checkpoint, "sha256": spec.sha256},
        "contract": contract.model_dump(
            include={"task", "max_batch_size", "inputs", "outputs"}, mode="json", exclude_none=True
        ),
    }


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_version() -> str:
    """The commit, with `-dirty` where files differ from it; without git the package's version."""
    command = ["git", "describe", "--always", "--dirty", "--tags"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return done.stdout.strip()
