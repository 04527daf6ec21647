"""Where the addresses of endpoints are found: a DNS name, or a file that something else writes.

A source is asked again and again. How long a DNS record may be kept is not asked for: `getaddrinfo`, which
knows everything that the system knows (/etc/hosts, search domains, caches), does not tell.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from gateway.file_watch import FileWatch
from gateway.settings import Address

Source = Callable[[], Awaitable[frozenset[str]]]
"""Finds addresses, `host:port`; raises LookupFailed. None at all is an answer too."""
Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""From a name to its IP addresses; raises OSError or UnicodeError."""

_ADDRESSES = TypeAdapter(tuple[Address, ...])


class LookupFailed(Exception):
    """There was no answer, or none that can be used; says why."""


async def resolve(name: str) -> list[str]:
    """Every IPv4 and IPv6 address of a name, as the system finds them (OSError, UnicodeError)."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class DnsSource:
    """Every address record of a name, with one port.

    Args:
        address: `name:port`.
        resolve: from the name to its addresses.
    """

    def __init__(self, address: str, resolve: Resolve = resolve) -> None:
        self._name, _, self._port = address.rpartition(":")
        self._resolve = resolve

    async def __call__(self) -> frozenset[str]:
        """Look the name up (LookupFailed)."""
        try:
            found = await self._resolve(self._name)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise LookupFailed(f"{self._name}: {why}") from error
        return frozenset(f"[{ip}]:{self._port}" if ":" in ip else f"{ip}:{self._port}" for ip in found)


class FileSource:
    """A file with a list of `host:port`, in YAML.

    Args:
        path: of the file; it may be a link that is turned, as Kubernetes does with a mounted ConfigMap.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watch = FileWatch([path])
        self._found: frozenset[str] | None = None  # of the file as it is; None while it must be read

    async def __call__(self) -> frozenset[str]:
        """Read the file, if it has changed or could not be read (LookupFailed)."""
        if self._watch.changed():
            self._found = None
        if self._found is None:
            self._found = await asyncio.to_thread(_read, self._path)
        return self._found


def _read(path: Path) -> frozenset[str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return frozenset(_ADDRESSES.validate_python([] if content is None else content))
    except OSError as error:
        raise LookupFailed(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        entry = f"entry {int(problem['loc'][0]) + 1}: " if problem["loc"] else ""
        why = problem["msg"].removeprefix("Value error, ") if entry else "expected a list of host:port"
        raise LookupFailed(f"{path}: {entry}{why}") from error
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8 either
        raise LookupFailed(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
