"""What the local stack remembers between `up`, `status` and `down`: one file, run/stack.json."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from services.local_processes import Server

FILE = "stack.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the stack, as it was started or why it was not.

    Attributes:
        name: as the table shows it.
        server: its process; None when it was skipped.
        addresses: what listens, for people to read.
        log: where its output went.
        skipped: why it was not started, or did not get ready.
    """

    name: str
    server: Server | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """The stack that was started, part by part; empty when none was.

    Attributes:
        stack: its name.
        parts: in the order of the table.
        boot_id: of the kernel under which it runs; after a reboot, process ids mean nothing.
    """

    stack: str = ""
    parts: tuple[Part, ...] = ()
    boot_id: str = field(default_factory=lambda: BOOT_ID.read_text().strip())

    def with_part(self, part: Part) -> Self:
        """With this part in place of the one of the same name, else as the last."""
        parts = {old.name: old for old in self.parts} | {part.name: part}
        return replace(self, parts=tuple(parts.values()))

    def find(self, name: str) -> Part | None:
        """The part of that name."""
        return next((part for part in self.parts if part.name == name), None)

    def save(self, run: Path) -> None:
        """Replace the file, all at once, so that a reader never sees half of it."""
        run.mkdir(parents=True, exist_ok=True)
        new = run / f"{FILE}.new"
        new.write_text(json.dumps(asdict(self), indent=2))
        new.replace(run / FILE)


def load(run: Path) -> Record:
    """The record in the run folder; an empty one when there is none, or the machine has booted since."""
    try:
        data = json.loads((run / FILE).read_text())
    except FileNotFoundError:
        return Record()
    parts = tuple(
        Part(**{**part, "server": part["server"] and Server(**part["server"])}) for part in data["parts"]
    )
    record = Record(stack=data["stack"], parts=parts, boot_id=data["boot_id"])
    return record if record.boot_id == Record().boot_id else Record()


def forget(run: Path) -> None:
    """Remove the record: nothing is left of the stack."""
    (run / FILE).unlink(missing_ok=True)
