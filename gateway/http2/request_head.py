"""The headers of a gRPC call: which method, until when, and what else the client says.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and RFC 9113, 8.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpc import StatusCode

from gateway.http2.header_blocks import Field

NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
"""A name, which over HTTP/2 has no upper case."""
FORBIDDEN = re.compile(rb"[\0\r\n]").search
OF_HTTP_1 = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
ENCODINGS = frozenset(("identity", "gzip", "deflate"))
MAX_DIGITS = 18
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])").fullmatch
_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_BINARY = b"-bin"


class Malformed(Exception):
    """Headers that HTTP/2 does not allow: the stream ends with PROTOCOL_ERROR."""


class Refusal(Exception):
    """A request that is to be answered without asking any method.

    Attributes:
        code: gRPC's status; None for a request that is none of gRPC.
        http_status: HTTP's.
    """

    def __init__(self, code: StatusCode | None, text: str, http_status: int = 200) -> None:
        super().__init__(text)
        self.code = code
        self.http_status = http_status


@dataclass(frozen=True, slots=True)
class Head:
    """The headers of a call. Calls with equal headers share one.

    Attributes:
        path: of the method, with its service.
        metadata: names in lower case, the last of several; no binary ones, which nobody here reads.
        timeout_seconds: from when the call began; None without.
        encoding: how its compressed messages are compressed.
        length: what the body is said to have in bytes; -1 where it is not said.
        refusal: what it is to be answered, if no method is to be asked.
    """

    path: str
    metadata: Mapping[str, str]
    timeout_seconds: float | None = None
    encoding: str = "identity"
    length: int = -1
    refusal: Refusal | None = None


def read_head(fields: Sequence[Field]) -> Head:
    """A call, from its headers.

    Raises:
        Malformed: HTTP/2 does not allow them.
    """
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if FORBIDDEN(value):
            raise Malformed
        if name[:1] == b":":
            if regular or name in pseudo or name not in PSEUDO:
                raise Malformed
            pseudo[name] = value
        else:
            if not NAME(name) or name in OF_HTTP_1 or (name == b"te" and value != b"trailers"):
                raise Malformed
            regular[name] = value
    if not (b":method" in pseudo and pseudo.get(b":scheme") and pseudo.get(b":path")):
        raise Malformed
    metadata = {
        name.decode("ascii"): value.decode("latin-1")
        for name, value in regular.items()
        if not name.endswith(_BINARY)
    }
    path = pseudo[b":path"].decode("latin-1")
    said = regular.get(b"content-length")
    if said is not None and not (said.isdigit() and len(said) <= MAX_DIGITS):
        raise Malformed
    length = -1 if said is None else int(said)
    try:
        _check(pseudo[b":method"], metadata)
        timeout = _timeout_seconds(metadata.get("grpc-timeout"))
    except Refusal as refusal:
        return Head(path, metadata, length=length, refusal=refusal)
    return Head(path, metadata, timeout, metadata.get("grpc-encoding", "identity"), length)


def check_trailers(fields: Sequence[Field]) -> None:
    """See that they are none of the headers that only a request may begin with.

    Raises:
        Malformed: they are.
    """
    if not all(NAME(name) and not FORBIDDEN(value) for name, value in fields):
        raise Malformed


def _check(method: bytes, metadata: Mapping[str, str]) -> None:
    if method != b"POST":
        raise Refusal(None, "gRPC is spoken with POST", 405)
    kind = metadata.get("content-type", "")
    if not (kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;"))):
        raise Refusal(None, "the content type is none of gRPC's", 415)
    encoding = metadata.get("grpc-encoding", "identity")
    if encoding not in ENCODINGS:
        raise Refusal(StatusCode.UNIMPLEMENTED, f'Compression algorithm "{encoding[:100]}" is not supported')


def _timeout_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = _TIMEOUT(text)
    if found is None:
        raise Refusal(StatusCode.INTERNAL, "malformed grpc-timeout")
    return int(found[1]) * _UNIT_SECONDS[found[2]]
