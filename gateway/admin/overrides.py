"""What an operator has changed since the configuration was read; the next reload ends it."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Action = Literal["drain", "undrain", "weight", "label"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        action: drain or undrain an endpoint, or set the weight of a model's canary, or its label.
        name: of the endpoint, or of the model.
        label: which label is set, or whose canary; empty where there is none.
        value: the weight, 0 to 1, or the label's version.
    """

    action: Action
    name: str
    label: str = ""
    value: str | float | None = None

    def to_json(self) -> dict[str, Any]:
        """As the admin API and the processes' channel have it."""
        return {key: value for key, value in asdict(self).items() if value not in ("", None)}


class Overrides:
    """The changes that hold: of two on the same thing the later one."""

    def __init__(self, changes: Iterable[Change] = ()) -> None:
        self._changes: dict[tuple[str, str, str], Change] = {}
        for change in changes:
            self.add(change)

    def add(self, change: Change) -> None:
        """A change was made; an undrain takes back the drain, and leaves nothing to show."""
        subject = "drain" if change.action == "undrain" else change.action
        self._changes.pop((subject, change.name, change.label), None)
        if change.action != "undrain":
            self._changes[subject, change.name, change.label] = change

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes.values())
