"""One API key: `ifw_<id>_<secret>`.

The id is looked up and may be shown; of the secret only the SHA-256 is stored. A slow hash (bcrypt, argon2)
is for passwords, which can be guessed. These secrets are 32 random bytes: nobody guesses 256 bits, whatever a
try costs, and a request cannot wait for a slow hash.
"""

import hashlib
import hmac
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.errors import ModelForbidden, Unauthenticated
from gateway.specs import Name, Section

PREFIX = "ifw"
SECRET_BYTES = 32
KNOWN = 1024
"""So many keys that were presented are not hashed again. That one of them was presented before shows in the
time, but only to who presents it whole."""
_FORM = re.compile(r"ifw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = bytes(32)
"""What the digest of an unknown key is compared with, so that it takes as long as a known one."""

KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


class KeySpec(Section):
    """A key as it is stored.

    Attributes:
        name: whose it is, for people and the log.
        sha256: of the secret.
        models: what it may call; empty means every model.
        requests_per_second: how fast it may ask in the long run; 0 means as fast as it likes.
        burst: how many it may ask at once; without one, those of a second.
        requests_per_day: how many it may ask from one midnight (UTC) to the next; 0 means any number.
        disabled: refused, as if it were not there.
        expires: refused from then on.
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    models: tuple[Name, ...] = ()
    requests_per_second: Annotated[float, Field(ge=0)] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0
    requests_per_day: Annotated[int, Field(ge=0)] = 0
    disabled: bool = False
    expires: datetime | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.burst and not self.requests_per_second:
            raise ValueError("burst needs requests_per_second")
        if self.expires is not None and self.expires.tzinfo is None:
            raise ValueError("expires needs a time zone, for example 2030-01-31T00:00:00Z")
        return self


@dataclass(frozen=True, slots=True)
class Key:
    """A key as requests meet it.

    Attributes:
        id: its public half.
        name: whose it is.
        digest: SHA-256 of its secret.
        models: what it may call; empty means every model.
        per_second: requests in the long run; 0 without a limit.
        burst: requests at once, at least 1.
        per_day: requests a day (UTC); 0 without a limit.
        is_disabled: whether it is refused.
        expires_at: from when it is refused, seconds of `time.time()`.
    """

    id: str
    name: str
    digest: bytes
    models: frozenset[str] = frozenset()
    per_second: float = 0.0
    burst: int = 1
    per_day: int = 0
    is_disabled: bool = False
    expires_at: float = float("inf")

    @classmethod
    def of(cls, key_id: str, spec: KeySpec) -> Self:
        """From what is stored."""
        return cls(
            id=key_id,
            name=spec.name,
            digest=bytes.fromhex(spec.sha256),
            models=frozenset(spec.models),
            per_second=spec.requests_per_second,
            burst=spec.burst or max(1, round(spec.requests_per_second)),
            per_day=spec.requests_per_day,
            is_disabled=spec.disabled,
            expires_at=spec.expires.timestamp() if spec.expires else float("inf"),
        )

    def check_model(self, model: str) -> None:
        """See that it may call `model`.

        Raises:
            ModelForbidden: it may not.
        """
        if self.models and model not in self.models:
            raise ModelForbidden(f"this key may not call model '{model}'")


CALLER: ContextVar[Key | None] = ContextVar("caller", default=None)
"""The key of the request that this task answers; set by the edges where keys are on."""


@lru_cache(KNOWN)
def split(presented: str) -> tuple[str, bytes]:
    """Of what a caller presents: the id, and the SHA-256 of the secret.

    Raises:
        Unauthenticated: it has not the form of a key.
    """
    form = _FORM.fullmatch(presented)
    if form is None:
        raise Unauthenticated("the API key is not valid")
    return form[1], digest(form[2])


def verify(key: Key | None, sha256: bytes, now: float) -> Key:
    """The key, if the secret is its own. It takes as long whether the key is known or not.

    Args:
        key: what is stored under the id; None if nothing is.
        sha256: of the secret that the caller has.
        now: seconds of `time.time()`.

    Raises:
        Unauthenticated: unknown, wrong, disabled or expired.
    """
    is_right = hmac.compare_digest(sha256, key.digest if key else _NOBODY)
    if key is None or not is_right:
        raise Unauthenticated("the API key is not valid")
    check_valid(key, now)
    return key


def check_valid(key: Key, now: float) -> None:
    """See that a key may be used now.

    Raises:
        Unauthenticated: disabled or expired.
    """
    if key.is_disabled:
        raise Unauthenticated("the API key is disabled")
    if now >= key.expires_at:
        raise Unauthenticated("the API key has expired")


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def new_secret() -> tuple[str, str, str]:
    """A new id, the hexadecimal SHA-256 to store under it, and the whole key to hand out."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
    return key_id, digest(secret).hex(), f"{PREFIX}_{key_id}_{secret}"


def presented(authorization: str, x_api_key: str) -> str:
    """The key among a request's headers or metadata; X-API-Key comes first.

    Raises:
        Unauthenticated: there is none.
    """
    scheme, _, value = authorization.partition(" ")
    found = x_api_key or (value.strip() if scheme.lower() == "bearer" else "")
    if not found:
        how = "send `Authorization: Bearer <key>` or `X-API-Key: <key>`"
        raise Unauthenticated(f"an API key is needed: {how}", reason="no_key")
    return found
