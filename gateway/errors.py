"""Every expected failure, in the words of the gateway and of no protocol.

    InferwayError
    |-- InvalidRequest                 the caller's fault
    |   |-- MalformedBody                not JSON, not protobuf, not an image, a broken header
    |   |-- InvalidTensor                names the tensor, what was expected and what came
    |   |-- BodyTooLarge                 over `max_request_bytes`, before or after expansion
    |   |-- Unsupported                  a part of a protocol that Inferway does not serve
    |   `-- RejectedByBackend            a backend blamed the input, in its own words
    |-- NotFound
    |   |-- ModelNotFound
    |   `-- VersionNotFound              a version, label or variant that the model does not have
    |-- Refused                        the caller's key does not let it in
    |   |-- Unauthenticated              no key, or none that is known and valid
    |   |-- ModelForbidden               the key may not call this model
    |   `-- QuotaExceeded                the key is over its rate or its quota
    |-- DeadlineExceeded               the caller's deadline passed
    |-- Unavailable                    no endpoint left that could answer
    |-- Overloaded                     shed: the pool cannot answer it in time
    `-- EndpointFailure                one attempt at one endpoint failed
        |-- EndpointUnreachable          nothing was sent: a retry is free
        |-- EndpointBusy                 its queue is full; it is well
        |-- EndpointFailed               it broke while answering
        |   `-- ModelFailed                  its model raised; perhaps at this input
        |-- HandlerFailed                a handler without a contract raised; perhaps the input was wrong
        |-- AttemptTimedOut              it did not answer within `attempt_timeout_seconds`
        `-- BadReply                     it said OK with the wrong tensors

Three facts are stated by each class, because three parties ask: the edges map `code` to a status of their
protocol (`protocols/problems.py`), Retry asks `retryable`, and outlier detection asks `blames_endpoint`.
"""

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar


class Code(Enum):
    """What kind of failure it is; also the `outcome` label of the metrics."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    QUOTA_EXCEEDED = "quota_exceeded"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class InferwayError(Exception):
    """An expected failure; its text is fit for the caller to read."""

    code: ClassVar[Code] = Code.INTERNAL
    retryable: ClassVar[bool] = False
    blames_endpoint: ClassVar[bool] = False


class InvalidRequest(InferwayError):
    """The request cannot be answered as it stands."""

    code = Code.INVALID_ARGUMENT


class MalformedBody(InvalidRequest):
    """The body is not what its protocol says it must be."""


class InvalidTensor(InvalidRequest):
    """One tensor does not fit the model's contract.

    Args:
        tensor: the tensor's name, as the caller or the contract has it.
        expected: what the contract asks for.
        got: what came.
    """

    def __init__(self, tensor: str, *, expected: str, got: str) -> None:
        super().__init__(f"tensor '{tensor}': expected {expected}, got {got}")
        self.tensor = tensor
        self.expected = expected
        self.got = got


class BodyTooLarge(InvalidRequest):
    """The body is over `max_request_bytes`, as sent or once expanded."""

    code = Code.TOO_LARGE

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"request body is larger than the limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Unsupported(InvalidRequest):
    """The protocol has it, Inferway does not serve it."""

    code = Code.UNSUPPORTED


class RejectedByBackend(InvalidRequest):
    """A backend said that the input is wrong; another endpoint would say the same."""


class NotFound(InferwayError):
    """The caller named something that is not configured."""

    code = Code.NOT_FOUND


class ModelNotFound(NotFound):
    """No model of that name."""

    def __init__(self, model: str) -> None:
        super().__init__(f"model '{model}' is not found")
        self.model = model


class VersionNotFound(NotFound):
    """The model has no such version, label or variant.

    Args:
        model: the model's name.
        what: `version`, `label` or `variant`.
        asked: what the caller asked for.
        known: what the model has.
    """

    def __init__(self, model: str, what: str, asked: str, known: Sequence[str]) -> None:
        have = ", ".join(known) if known else "none"
        super().__init__(f"model '{model}' has no {what} '{asked}' (it has: {have})")
        self.model = model


class Refused(InferwayError):
    """The caller's key does not let it in.

    Args:
        message: why.
        reason: `no_key`, `wrong_key`, `model`, `rate` or `quota`: a label of the metrics.
    """

    code = Code.FORBIDDEN

    def __init__(self, message: str, *, reason: str = "model") -> None:
        super().__init__(message)
        self.reason = reason


class Unauthenticated(Refused):
    """No key came, or none that is known and valid."""

    code = Code.UNAUTHENTICATED

    def __init__(self, message: str, *, reason: str = "wrong_key") -> None:
        super().__init__(message, reason=reason)


class ModelForbidden(Refused):
    """The key is valid, and not for this model."""


class QuotaExceeded(Refused):
    """The key is over its rate or its quota; the caller may come back.

    Args:
        message: which of the two.
        reason: `rate` or `quota`.
        retry_after_seconds: when the next request may pass.
    """

    code = Code.QUOTA_EXCEEDED

    def __init__(self, message: str, *, reason: str = "rate", retry_after_seconds: float = 1.0) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(InferwayError):
    """The caller's deadline passed before an answer was there."""

    code = Code.DEADLINE_EXCEEDED


class Unavailable(InferwayError):
    """No endpoint is left that could answer; the caller may come back.

    Args:
        message: what could not be reached, and why.
        retry_after_seconds: when an endpoint may be back.
    """

    code = Code.UNAVAILABLE

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Overloaded(InferwayError):
    """Shed before it was sent: the pool has more than it can answer in time. The caller may come back.

    Args:
        message: why this request.
        retry_after_seconds: when one more would be answered, by the rate of the answers now.
    """

    code = Code.UNAVAILABLE

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EndpointFailure(InferwayError):
    """One attempt at one endpoint failed.

    Attributes:
        endpoint: which; filled in by the balancer.
        hedged_at: the other endpoint, where an attempt that ran beside it failed too; else empty.
    """

    code = Code.UNAVAILABLE
    retryable = True
    blames_endpoint = True
    was_sent: ClassVar[bool] = True

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.endpoint = self.hedged_at = ""


class EndpointUnreachable(EndpointFailure):
    """No connection: the request never left, so that a retry costs the backend nothing."""

    was_sent = False


class EndpointBusy(EndpointFailure):
    """The endpoint's own queue is full; it is well, so another may take the request."""

    blames_endpoint = False


class EndpointFailed(EndpointFailure):
    """The endpoint broke while it was answering."""


class ModelFailed(EndpointFailed):
    """The endpoint's model raised: it is blamed, but perhaps it was the input of one request in its batch."""


class HandlerFailed(EndpointFailure):
    """A team's own code raised on this input: nobody can tell which of the two is wrong."""

    blames_endpoint = False


class AttemptTimedOut(EndpointFailure):
    """The endpoint did not answer within `attempt_timeout_seconds`."""


class BadReply(EndpointFailure):
    """The endpoint answered OK with tensors that do not fit the contract."""
