"""How each protocol says that something failed: one table per kind of edge, and the bodies.

A test holds every table complete against `errors.Code`.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import grpc
import orjson

from gateway.errors import Code, InferwayError, ModelNotFound, Unavailable, VersionNotFound

HTTP_STATUS: Mapping[Code, int] = MappingProxyType(
    {
        Code.INVALID_ARGUMENT: 400,
        Code.NOT_FOUND: 404,
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
        Code.TOO_LARGE: "RequestEntityTooLargeException",
        Code.UNSUPPORTED: "MethodNotAllowedException",
        Code.DEADLINE_EXCEEDED: "InternalServerException",
        Code.UNAVAILABLE: "ServiceUnavailableException",
        Code.INTERNAL: "InternalServerException",
    },
)

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
    """Headers (gRPC: trailers) of a failure: `retry-after` in whole seconds when no endpoint was left."""
    if isinstance(error, Unavailable):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_seconds)))}
    return {"retry-after": "1"} if error_code(error) is Code.UNAVAILABLE else {}


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
    return orjson.dumps({"code": http_status(error), "type": kind, "message": message})
