"""How each protocol says that something failed: one table per kind of edge, and the bodies.

A test holds every table complete against `errors.Code`.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import grpc
import orjson

from gateway.errors import (
    Code,
    InferwayError,
    ModelNotFound,
    Overloaded,
    QuotaExceeded,
    Unauthenticated,
    Unavailable,
    VersionNotFound,
)

HTTP_STATUS: Mapping[Code, int] = MappingProxyType(
    {
        Code.INVALID_ARGUMENT: 400,
        Code.NOT_FOUND: 404,
        Code.UNAUTHENTICATED: 401,
        Code.FORBIDDEN: 403,
        Code.QUOTA_EXCEEDED: 429,
        Code.TOO_LARGE: 413,
        Code.UNSUPPORTED: 501,
        Code.DEADLINE_EXCEEDED: 504,
        Code.UNAVAILABLE: 503,
        Code.INTERNAL: 500,
    },
)

GRPC_STATUS: Mapping[Code, grpc.StatusCode] = MappingProxyType(
    {
        Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
        Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
        Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
        Code.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
        Code.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Code.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Code.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
        Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
        Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        Code.INTERNAL: grpc.StatusCode.INTERNAL,
    },
)

TORCHSERVE_TYPE: Mapping[Code, str] = MappingProxyType(
    {
        Code.INVALID_ARGUMENT: "BadRequestException",
        Code.NOT_FOUND: "ResourceNotFoundException",
        Code.UNAUTHENTICATED: "InvalidKeyException",
        Code.FORBIDDEN: "InvalidKeyException",
        Code.QUOTA_EXCEEDED: "TooManyRequestsException",
        Code.TOO_LARGE: "RequestEntityTooLargeException",
        Code.UNSUPPORTED: "MethodNotAllowedException",
        Code.DEADLINE_EXCEEDED: "InternalServerException",
        Code.UNAVAILABLE: "ServiceUnavailableException",
        Code.INTERNAL: "InternalServerException",
    },
)

TORCHSERVE_BAD_TOKEN = (
    "Token Authorization failed. Token either incorrect, expired, or not provided correctly"  # noqa: S105 - a text
)
"""What TorchServe 0.12 says to a request without a valid token, over both of its protocols."""

CHALLENGE = 'Bearer realm="inferway"'
TEXT_LIMIT = 500
"""Characters of a text for the caller, who may have sent a name of many megabytes. A gRPC status travels in
headers, of which clients take 8 KiB by default, and spells a character in up to 12 bytes."""


def error_text(error: Exception) -> str:
    """What the caller may read: the text of an expected failure, and no more of an unexpected one."""
    return _shortened(str(error)) if isinstance(error, InferwayError) else "internal error"


def _shortened(text: str) -> str:
    more = len(text) - TEXT_LIMIT
    return f"{text[:TEXT_LIMIT]}... ({more} characters more)" if more > 0 else text


def error_code(error: Exception) -> Code:
    """The code of any failure."""
    return error.code if isinstance(error, InferwayError) else Code.INTERNAL


def http_status(error: Exception) -> int:
    """The HTTP status of a failure."""
    return HTTP_STATUS[error_code(error)]


def failure_headers(error: Exception) -> dict[str, str]:
    """Headers (gRPC: trailers) of a failure.

    `retry-after` in whole seconds where the caller may come back, `www-authenticate` where it needs a key.
    """
    if isinstance(error, Unauthenticated):
        invalid = "" if error.reason == "no_key" else ', error="invalid_token"'  # as RFC 6750, 3.1 has it
        return {"www-authenticate": CHALLENGE + invalid}
    if isinstance(error, Unavailable | Overloaded | QuotaExceeded):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_seconds)))}
    return {"retry-after": "1"} if error_code(error) is Code.UNAVAILABLE else {}


def grpc_trailers(error: Exception) -> dict[str, str]:
    """Trailers of a failure over gRPC: its headers, and of what was shed when gRPC itself may try again.

    A client with a retry policy for UNAVAILABLE waits as long as `grpc-retry-pushback-ms` says instead of
    its own back-off (gRPC proposal A6), so that shedding does not invite the next wave.
    """
    trailers = failure_headers(error)
    if isinstance(error, Overloaded):
        trailers["grpc-retry-pushback-ms"] = str(1000 * int(trailers["retry-after"]))
    return trailers


def error_object(error: Exception) -> bytes:
    """`{"error": "..."}`: the body of OIP REST and of TF Serving REST alike."""
    return orjson.dumps({"error": error_text(error)})


def torchserve_object(error: Exception) -> bytes:
    """`{"code": 404, "type": "ModelNotFoundException", "message": "..."}`, as TorchServe words it."""
    kind = TORCHSERVE_TYPE[error_code(error)]
    message = error_text(error)
    if isinstance(error, ModelNotFound):
        kind, message = "ModelNotFoundException", _shortened(f"Model not found: {error.model}")
    elif isinstance(error, VersionNotFound):
        kind = "ModelVersionNotFoundException"
    elif isinstance(error, Unauthenticated):
        message = TORCHSERVE_BAD_TOKEN
    return orjson.dumps({"code": http_status(error), "type": kind, "message": message})
