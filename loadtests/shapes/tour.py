"""`make load SHAPE=tour`: ends as soon as every kind of user has asked every model, a smoke test."""

import sys
from typing import Any

from loadtests import curves
from loadtests.shapes.curved import CurvedShape


class Tour(CurvedShape):
    """All users until nothing is left to ask; when the time is over before, the program ends with 1."""

    curve = (curves.soak,)

    def tick(self) -> tuple[int, float] | None:
        """As of a soak, or None at the end of the tour."""
        left = self._left()
        more = super().tick() if left else None
        if more is None and left:
            runner: Any = self.runner
            runner.environment.process_exit_code = 1
            sys.stdout.write(f"never answered: {', '.join(sorted(left))}\n")
        return more

    def _left(self) -> set[str]:
        """What the report has no answer for yet, by its name there."""
        runner: Any = self.runner
        models = runner.environment.parsed_options.models.split()
        names = {f"{kind.protocol} {model}" for kind in runner.user_classes for model in models}
        return names - {entry.name for entry in runner.stats.entries.values() if entry.num_requests}
