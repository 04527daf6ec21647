"""Send the same files to two servers and compare their answers: `python -m services.compare --help`.

    .venvs/gateway/bin/python -m services.compare OLD_URL NEW_URL FILE ...

Each file is the body of one POST, as a client of TorchServe's REST sends it. Answers are JSON: numbers may
differ by the tolerance, all else must be equal. Exit code 1 when two answers differ, or one is an error.
"""

import argparse
import http.client
import json
import math
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

AT_ONCE = 8
"""Requests in flight: with one at a time, a balancer could send all of them to the quicker endpoint."""
TOLERANCE = 1e-4
"""How far two engines' numbers may be apart: what publishing allows for fp32 (models/README.md)."""
TIMEOUT_SECONDS = 30.0
SHOWN = 10
"""Differences that are printed; all are counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one file.

    Attributes:
        status: of HTTP; 0 when there was no reply.
        content: parsed JSON; text where it is none.
        backend: who answered, as Inferway's header says; empty from others.
    """

    status: int
    content: Any
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two servers' answers to one file."""

    path: Path
    old: Answer
    new: Answer

    @property
    def distance(self) -> float:
        """How far the numbers are apart; infinite where anything else differs, or one is an error."""
        if self.old.status != http.client.OK or self.new.status != http.client.OK:
            return math.inf
        return distance(self.old.content, self.new.content)


def distance(old: Any, new: Any) -> float:
    """How far the numbers of two JSON values are apart; infinite where they differ in anything else."""
    if _is_number(old) and _is_number(new):
        if math.isnan(old) or math.isnan(new):
            return 0.0 if math.isnan(old) and math.isnan(new) else math.inf
        return 0.0 if old == new else abs(old - new)  # whole numbers stay whole: ids are longer than a float
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return max((distance(value, new[key]) for key, value in old.items()), default=0.0)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max(map(distance, old, new), default=0.0)
    return 0.0 if type(old) is type(new) and old == new else math.inf


def ask(url: str, body: bytes) -> Answer:
    """POST a file and read the reply, also one that is an error."""
    request = urllib.request.Request(url, body, {"content-type": "application/octet-stream"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:  # noqa: S310 - a URL of the user
            return Answer(reply.status, _parsed(reply.read()), reply.headers.get("x-inferway-backend") or "")
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _parsed(error.read()))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error))


def report(comparisons: Sequence[Comparison], tolerance: float) -> tuple[str, bool]:
    """What to print, and whether all answers are equal."""
    different = [found for found in comparisons if found.distance > tolerance]
    lines = [
        f"{found.path}: {found.old.status} {found.old.content} became {found.new.status} {found.new.content}"
        for found in different[:SHOWN]
    ]
    by_backend: dict[str, list[float]] = {}
    for found in comparisons:
        if found.distance <= tolerance:
            by_backend.setdefault(found.new.backend or "unknown", []).append(found.distance)
    for backend, distances in sorted(by_backend.items()):
        lines.append(f"{backend}: {len(distances)} equal, largest difference {max(distances):.1e}")
    lines.append(f"{len(comparisons) - len(different)} of {len(comparisons)} answers are equal")
    return "\n".join(lines), not different


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 1 when two answers differ, or one is an error."""
    parser = argparse.ArgumentParser(prog="python -m services.compare", description=main.__doc__)
    parser.add_argument("old", help="URL, such as http://127.0.0.1:8080/predictions/cnn_mnist")
    parser.add_argument("new", help="URL of the server that is to answer alike")
    parser.add_argument("files", type=Path, nargs="+", help="bodies to send")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="for numbers (%(default)s)")
    options = parser.parse_args(argv)
    bodies = [path.read_bytes() for path in options.files]
    with ThreadPoolExecutor(AT_ONCE) as pool:  # one server after the other: each has all of them in flight
        old, new = (list(pool.map(partial(ask, url), bodies)) for url in (options.old, options.new))
    comparisons = list(map(Comparison, options.files, old, new))
    text, is_equal = report(comparisons, options.tolerance)
    sys.stdout.write(f"{text}\n")
    return 0 if is_equal else 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "backslashreplace")  # other bytes stay another text


if __name__ == "__main__":
    sys.exit(main())
