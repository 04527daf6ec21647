"""How many rows one batch may have: additive increase, multiplicative decrease on its latency.

Clipper's adaptive batching (Crankshaw et al., NSDI 2017, section 4.3.1): the largest batch grows while
batches of that size are answered within the latency objective, and shrinks by a tenth when one is not. So the
size follows what the model costs where it runs, and nobody has to profile it. It begins as TCP does, by
doubling.
"""

DECREASE_RATIO = 0.9
"""What is left after a batch that took too long (Clipper's)."""
FIRST_ROWS = 4
"""The limit to begin with."""
ALONE_RATIO = 2.0
"""A model that takes longer than the goal for one request, alone, may take twice that, as in admission."""
WEIGHT = 0.1
"""Of one answer in the mean of those that were alone."""


class SizeLimit:
    """The limit of one pool; pure but for its own state.

    Args:
        max_rows: it never rises above.
        goal_seconds: how long a batch may take, waiting at the engine included.
    """

    def __init__(self, max_rows: int, goal_seconds: float) -> None:
        self._max_rows = max_rows
        self._goal_seconds = goal_seconds
        self._exact = float(min(FIRST_ROWS, max_rows))
        self._alone_seconds = 0.0  # 0 before the first
        self._is_starting = True

    @property
    def rows(self) -> int:
        """How many rows a batch may have, 1 or more."""
        return int(self._exact)

    @property
    def max_rows(self) -> int:
        """What `rows` never rises above."""
        return self._max_rows

    def answered_alone(self, seconds: float) -> None:
        """One request, sent while nothing else was in flight, took so long."""
        # Down at once: a hiccup only makes an answer slower.
        mean = self._alone_seconds
        self._alone_seconds = min(seconds, mean + WEIGHT * (seconds - mean)) if mean else seconds

    def answered(self, seconds: float, *, was_full: bool, spare_seconds: float) -> None:
        """A batch took so long.

        Args:
            seconds: from sending to the answer, or to giving it up.
            was_full: it had as many rows as there may be, and more waited.
            spare_seconds: what the least patient of its callers had left when it was sent.
        """
        goal = min(max(self._goal_seconds, ALONE_RATIO * self._alone_seconds), spare_seconds)
        if seconds > goal:
            self._is_starting = False
            self._exact = max(1.0, self._exact * DECREASE_RATIO)
        elif was_full:
            grown = self._exact * 2 if self._is_starting else self._exact + 1
            self._exact = min(grown, self._max_rows)
