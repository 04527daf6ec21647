"""How long to wait before a process that has ended is started again."""

FIRST_SECONDS = 0.5
LAST_SECONDS = 30.0
STEADY_SECONDS = 10.0
"""A process that has lived for so long was well: its end is the first again."""


class BackOff:
    """At once the first time, then longer each time that a process ends soon after its start."""

    def __init__(self) -> None:
        self._next_seconds = 0.0

    def after(self, lived_seconds: float) -> float:
        """Seconds to wait, now that a process has ended after `lived_seconds`."""
        if lived_seconds >= STEADY_SECONDS:
            self._next_seconds = 0.0
        wait_seconds = self._next_seconds
        self._next_seconds = min(max(FIRST_SECONDS, 2 * wait_seconds), LAST_SECONDS)
        return wait_seconds
