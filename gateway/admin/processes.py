"""The gateway processes as the admin port sees them: one, or several behind a supervisor."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What one process said.

    Attributes:
        process: its place, from 0.
        said: the answer; `refused` in it is a status and why, `failed` what went wrong.
    """

    process: int
    said: Mapping[str, Any]


class Processes(Protocol):
    """Every process of this gateway.

    Attributes:
        turn: one change at a time, so that all processes have them in the same order.
    """

    @property
    def turn(self) -> asyncio.Lock:
        """Held while a change is made."""
        ...

    async def ask(self, question: Mapping[str, Any]) -> list[Answer]:
        """The same question to each; one that does not answer in time has `failed`."""
        ...

    async def ask_first(self, question: Mapping[str, Any]) -> Answer:
        """A question that one process can answer for all."""
        ...

    async def metrics_page(self) -> bytes:
        """Of all together, in Prometheus' text format."""
        ...

    async def is_ready(self) -> bool:
        """Whether to send requests here."""
        ...

    def states(self) -> list[dict[str, Any]]:
        """Each process: its place, its pid, whether it serves, how often it was started again."""
        ...
