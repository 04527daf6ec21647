"""All keys that the gateway knows: of the file, then of Redis."""

import time
from collections.abc import Callable

from gateway.errors import Unauthenticated
from gateway.keys.key import Key, check_valid, split, verify
from gateway.keys.key_file import KeyFile
from gateway.keys.key_store import KeyStore


class Keyring:
    """Finds the key that a caller presents.

    Args:
        file: keys in a file, if there is one.
        store: keys in Redis, if there are any.
        wall_clock: seconds of `time.time()`.
    """

    def __init__(
        self,
        file: KeyFile | None = None,
        store: KeyStore | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._store = store
        self._wall_clock = wall_clock

    async def find(self, presented: str) -> Key:
        """The valid key that this is.

        Raises:
            Unauthenticated: it is none, or none that is valid.
        """
        key_id, sha256 = split(presented)
        key = self._in_file(key_id) or await self._in_store(key_id)
        return verify(key, sha256, self._wall_clock())

    async def again(self, key: Key) -> Key:
        """A key that was found valid, as it is now.

        Raises:
            Unauthenticated: it is not valid any more.
        """
        now = self._in_file(key.id) or await self._in_store(key.id)
        if now is None or now.digest != key.digest:
            raise Unauthenticated("the API key is not valid")
        check_valid(now, self._wall_clock())
        return now

    def _in_file(self, key_id: str) -> Key | None:
        return self._file.keys.get(key_id) if self._file else None

    async def _in_store(self, key_id: str) -> Key | None:
        return await self._store.find(key_id) if self._store else None

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        if self._file is not None:
            self._file.refresh()

    async def aclose(self) -> None:
        """Give up the connections."""
        if self._store is not None:
            await self._store.aclose()
