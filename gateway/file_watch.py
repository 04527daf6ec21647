"""Files that others write while the gateway runs: certificates that are renewed, keys that are added."""

from collections.abc import Iterable
from pathlib import Path

FileState = tuple[int, int, int] | None


class FileWatch:
    """Tells whether files have changed since it was asked last.

    It looks at what the names lead to: Kubernetes renews a mounted secret by turning a link.

    Args:
        paths: of the files; one that is not there has changed once it is.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._seen: dict[Path, FileState] = {}
        self.watch(paths)

    def __len__(self) -> int:
        """How many files it looks at."""
        return len(self._seen)

    def watch(self, paths: Iterable[Path]) -> None:
        """Look at these files from now on, and at no others."""
        self._seen = {path: self._seen[path] if path in self._seen else file_state(path) for path in paths}

    def wait_for(self, path: Path) -> None:
        """Look at this file, too, which was not there; if it is by now, it has changed."""
        self._seen[path] = None

    def changed(self) -> bool:
        """Whether any is another than it was at the last call (or at the start)."""
        before, self._seen = self._seen, {path: file_state(path) for path in self._seen}
        return self._seen != before


def file_state(path: Path) -> FileState:
    """What changes when the file does; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
