"""What is being built and what is done, a line each, from several threads."""

import shutil
import sys
from threading import Lock
from typing import TextIO


class Progress:
    """Counts up to a total.

    Args:
        total: how many things there are.
        stream: where the lines go; on a terminal the last line says what is under way.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = stream or sys.stdout
        self._done = 0
        self._begun: list[str] = []
        self._lock = Lock()

    def begins(self, name: str) -> None:
        """One thing is under way."""
        with self._lock:
            self._begun.append(name)
            self._show()

    def ends(self, name: str, said: str) -> None:
        """It is done: a line with how many are, and what became of it."""
        with self._lock:
            self._done += 1
            self._begun.remove(name)
            self._show(f"[{self._done}/{self._total}] {name}: {said}\n")

    def _show(self, line: str = "") -> None:
        is_terminal = self._stream.isatty()
        clear = "\r\x1b[K" if is_terminal else ""
        waiting = f"    building {', '.join(self._begun)} ..." if is_terminal and self._begun else ""
        room = shutil.get_terminal_size().columns - 1  # of a line that wraps only the last row would clear
        self._stream.write(f"{clear}{line}{waiting[:room]}")
        self._stream.flush()
