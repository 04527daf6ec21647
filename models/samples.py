"""Labelled payloads in a zip: what a client would send to `/predictions`, and the right answer.

    0000_7.png    the label is the integer 7
    0001_326.0.json    ... the number 326.0

They go through the model's transform.py, as a client's do, so that training, evaluation and serving see the
same.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NAME = re.compile(r"[0-9]{4,}_(?P<label>-?[0-9]+(?P<fraction>\.[0-9]+)?)\.[a-z0-9]+")
UNKNOWN = -1
"""The label of a payload whose right answer nobody knows."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Payloads and labels, in the same order.

    Attributes:
        payloads: N files, as transform.py's `to_inputs` takes them.
        labels: int64 [N], the index of the right class or UNKNOWN; of a regression float32 [N].
    """

    payloads: list[bytes]
    labels: NDArray[np.int64] | NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.payloads) != len(self.labels):
            raise ValueError(f"{len(self.payloads)} payloads, but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.payloads)

    def __getitem__(self, rows: slice) -> "Samples":
        return Samples(self.payloads[rows], self.labels[rows])


class Splits(NamedTuple):
    """A data set's three parts; no sample is in two of them."""

    train: Samples
    validation: Samples
    test: Samples


def read(path: Path) -> Samples:
    """The samples of a zip, in order of name.

    Raises:
        ValueError: it is missing or damaged, a member's name is not of the form above, or there is none.
    """
    try:
        return _read(path)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: missing or damaged: restore the file ({error})") from error


def _read(path: Path) -> Samples:
    with zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
        found = [NAME.fullmatch(name) for name in names]
        if not names or None in found:
            wrong = names[found.index(None)] if names else "nothing"
            raise ValueError(f"{path}: expected members such as 0000_7.png, got {wrong}")
        matches = [match for match in found if match]
        labels: NDArray[np.int64] | NDArray[np.float32]
        if any(match["fraction"] for match in matches):
            labels = np.array([float(match["label"]) for match in matches], np.float32)
        else:
            labels = np.array([int(match["label"]) for match in matches], np.int64)
        return Samples([archive.read(name) for name in names], labels)


def write(path: Path, samples: Samples, suffix: str) -> None:
    """Write a zip that `read` reads; the same samples always give the same bytes.

    Args:
        path: the zip; a file that is there is replaced.
        samples: what to write.
        suffix: of the members' names, without the dot: png, txt, json.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, payload in zip(_names(samples, suffix), samples.payloads, strict=True):
            # a ZipInfo of its own has no time of writing
            archive.writestr(zipfile.ZipInfo(name), payload, zipfile.ZIP_DEFLATED)


def _names(samples: Samples, suffix: str) -> Iterator[str]:
    digits = max(4, len(str(len(samples) - 1)))
    for i, label in enumerate(samples.labels):
        is_whole = np.issubdtype(samples.labels.dtype, np.integer)
        text = str(label) if is_whole else np.format_float_positional(label, unique=True, trim="0")
        yield f"{i:0{digits}d}_{text}.{suffix}"
