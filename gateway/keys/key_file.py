"""Keys in a YAML file, which is read again whenever it changes."""

from collections.abc import Mapping
from pathlib import Path

import structlog

from gateway.configuration import ConfigurationError, load
from gateway.file_watch import FileWatch
from gateway.keys.key import Key, KeyId, KeySpec
from gateway.specs import Section

_log = structlog.get_logger()


class KeyFileContent(Section):
    """The whole file: `keys:` with an entry for each id."""

    keys: Mapping[KeyId, KeySpec] = {}


class KeyFile:
    """The keys of one file.

    Args:
        path: of the file.

    Attributes:
        keys: by id.

    Raises:
        ConfigurationError: it cannot be read, with file and line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watch = FileWatch([path])
        self.keys = read_keys(path)

    def refresh(self) -> None:
        """Read it again if it has changed; what cannot be read changes nothing: nobody is locked out."""
        if not self._watch.changed():
            return
        try:
            self.keys = read_keys(self._path)
        except ConfigurationError as error:
            _log.error("key_file_unreadable", error=str(error))
        else:
            _log.info("key_file_read", keys=len(self.keys))


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file, by id.

    Raises:
        ConfigurationError: it cannot be read, with file and line.
    """
    content = load(KeyFileContent, path)
    return {key_id: Key.of(key_id, spec) for key_id, spec in content.keys.items()}
