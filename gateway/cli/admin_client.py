"""The admin API over HTTP, with the standard library alone: the command starts in a tenth of a second."""

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

TIMEOUT_SECONDS = 150.0
"""Longer than a reload may take."""


class CannotReach(Exception):
    """Nobody answers, or not as the admin port does."""


class NotDone(Exception):
    """The gateway says that it was not done, and why."""


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Asks one gateway.

    Attributes:
        url: of its admin port.
    """

    url: str

    def get(self, *path: str) -> Any:
        """What is shown at a path.

        Raises:
            CannotReach, NotDone.
        """
        return self._ask("GET", path, None)

    def post(self, *path: str) -> Any:
        """What a verb says.

        Raises:
            CannotReach, NotDone.
        """
        return self._ask("POST", path, {})

    def put(self, *path: str, body: Any) -> Any:
        """What setting something says.

        Raises:
            CannotReach, NotDone.
        """
        return self._ask("PUT", path, body)

    def _ask(self, method: str, path: tuple[str, ...], body: Any) -> Any:
        mend = "is the gateway running? --admin URL or INFERWAY_ADMIN names another"
        try:
            parts = urlsplit(self.url)
            if parts.scheme != "http" or not parts.hostname:
                raise CannotReach(f"'{self.url}' is no address; expected http://host:port")
            connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_SECONDS)
            target = "/" + "/".join(quote(part, safe="") for part in path)
            content = None if body is None else json.dumps(body)
            headers = {} if body is None else {"content-type": "application/json"}
            with closing(connection):
                connection.request(method, target, content, headers)
                reply = connection.getresponse()
                status, said = reply.status, reply.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CannotReach(f"cannot reach {self.url}: {why}; {mend}") from error
        return _read(self.url, status, said)


def _read(url: str, status: int, said: bytes) -> Any:
    """The reply's body.

    Raises:
        CannotReach: it is not the admin API's.
        NotDone: it says why.
    """
    try:
        body = json.loads(said)
    except ValueError as error:
        raise CannotReach(f"{url} is no admin port: it says {status} and no JSON") from error
    if not isinstance(body, dict):
        raise CannotReach(f"{url} is no admin port: it says {status} and no JSON object")
    if status >= http.client.BAD_REQUEST:
        raise NotDone(str(body.get("error", f"status {status}")))
    return body
