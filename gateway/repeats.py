"""What came before: the cheap question before more work is spent on what may never come again."""

from collections.abc import Hashable


class Repeats:
    """Remembers what it was asked about, by hashes: two that are alike may be taken for one.

    Args:
        limit: so much is remembered; one more, and all is forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hashes: set[int] = set()

    def __len__(self) -> int:
        return len(self._hashes)

    def has(self, one: Hashable) -> bool:
        """Whether it was asked about this before; from now on it was."""
        number = hash(one)
        if number in self._hashes:
            return True
        if len(self._hashes) >= self._limit:
            self._hashes.clear()
        self._hashes.add(number)
        return False
